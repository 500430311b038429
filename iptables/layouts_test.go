package iptables

import "net/netip"

const (
	usherMark  = 0x20000
	returnMark = 0x40000
)

// layouts are rules and what they look like. The same are given to the kernel
// in kernel_test.go.
var layouts = []struct {
	name   string
	family Family
	rules  Rules
	want   string
}{
	{
		name:   "nothing",
		family: IPv4,
		want: `
*filter
:USHER-INPUT - [0:0]
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-REDIRECT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
COMMIT
`,
	},
	{
		name:   "ending",
		family: IPv4,
		rules: Rules{
			Redirects: []Redirect{{Name: "shop/web:http", Protocol: TCP, Addr: netip.MustParseAddr("10.96.0.20"), Port: 80, To: 11000}},
			Mark:      Mark{0x20000, 0x20000}, Returning: Mark{0x40000, 0x40000}, Ending: true,
		},
		want: `
*mangle
:USHER-RETURN - [0:0]
-A USHER-RETURN -p tcp -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
-A USHER-RETURN -p udp -m conntrack --ctdir REPLY -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
-A USHER-RETURN -p icmp -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
COMMIT
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p tcp -m tcp --dport 11000 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p tcp -m tcp --dport 11000 -j REJECT --reject-with tcp-reset
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-REDIRECT
-A USHER-OUTPUT -m mark --mark 0x20000/0x20000 -j RETURN
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
COMMIT
`,
	},
	{
		name:   "everything, IPv4",
		family: IPv4,
		rules: Rules{
			Redirects: []Redirect{
				{Name: "shop/web:http", Protocol: TCP, Port: 30080, To: 11000},
				{Name: "shop/web:http", Protocol: TCP, Addr: netip.MustParseAddr("10.96.0.20"), Port: 80, To: 11000},
				{Name: "kube-system/kube-dns:dns", Protocol: UDP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 53, To: 11003},
				{Name: "kube-system/kube-dns:dns-tcp", Protocol: TCP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 53, To: 11001},
			},
			Mark:     Mark{Value: usherMark, Mask: usherMark},
			Numbered: []string{"lo", "eth0", "cni0"},
			NodeAddr: netip.MustParseAddr("192.0.2.1"),
		},
		want: `
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p tcp -m tcp --dport 11000:11001 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p tcp -m tcp --dport 11000:11001 -j REJECT --reject-with tcp-reset
-A USHER-INPUT -p udp -m udp --dport 11003 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p udp -m udp --dport 11003 -j DROP
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -i cni0 -g USHER-REDIRECT
-A USHER-PREROUTING -i eth0 -g USHER-REDIRECT
-A USHER-PREROUTING -i lo -g USHER-REDIRECT
-A USHER-PREROUTING -g USHER-DNAT
-A USHER-OUTPUT -m mark --mark 0x20000/0x20000 -j RETURN
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -m comment --comment "kube-system/kube-dns:dns-tcp" -j REDIRECT --to-ports 11001
-A USHER-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "kube-system/kube-dns:dns" -j REDIRECT --to-ports 11003
-A USHER-SERVICES -d 10.96.0.20/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-DNAT -j USHER-SERVICES-DNAT
-A USHER-DNAT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS-DNAT
-A USHER-SERVICES-DNAT -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -m comment --comment "kube-system/kube-dns:dns-tcp" -j DNAT --to-destination 192.0.2.1:11001
-A USHER-SERVICES-DNAT -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "kube-system/kube-dns:dns" -j DNAT --to-destination 192.0.2.1:11003
-A USHER-SERVICES-DNAT -d 10.96.0.20/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j DNAT --to-destination 192.0.2.1:11000
-A USHER-NODEPORTS-DNAT -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -j DNAT --to-destination 192.0.2.1:11000
COMMIT
`,
	},
	{
		name:   "IPv6",
		family: IPv6,
		rules: Rules{
			Redirects: []Redirect{
				{Name: "shop/web:http", Protocol: TCP, Addr: netip.MustParseAddr("fd00:10:96::14"), Port: 80, To: 11000},
			},
			Numbered: []string{"eth0"},
			NodeAddr: netip.MustParseAddr("2001:db8::1"),
		},
		want: `
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p tcp -m tcp --dport 11000 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p tcp -m tcp --dport 11000 -j REJECT --reject-with tcp-reset
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -i eth0 -g USHER-REDIRECT
-A USHER-PREROUTING -g USHER-DNAT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -d fd00:10:96::14/128 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-DNAT -j USHER-SERVICES-DNAT
-A USHER-DNAT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS-DNAT
-A USHER-SERVICES-DNAT -d fd00:10:96::14/128 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j DNAT --to-destination [2001:db8::1]:11000
COMMIT
`,
	},
	{
		name:   "interfaces are not looked at without a node address",
		family: IPv4,
		rules: Rules{
			Redirects: []Redirect{{Protocol: UDP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 53, To: 11003}},
			Numbered:  []string{"eth0"},
		},
		want: `
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p udp -m udp --dport 11003 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p udp -m udp --dport 11003 -j DROP
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-REDIRECT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j REDIRECT --to-ports 11003
COMMIT
`,
	},
	{
		name:   "for some clients, IPv4",
		family: IPv4,
		rules: Rules{
			Redirects: []Redirect{
				{Name: "shop/web:http", Protocol: TCP, Port: 30080, To: 11000, Here: true},
				{Name: "shop/web:http/local", Protocol: TCP, Port: 30080, To: 11001},
				{Name: "shop/web:http", Protocol: TCP, Addr: netip.MustParseAddr("203.0.113.7"), Port: 80, To: 11000, Here: true, Sources: officeV4},
				{Name: "shop/web:http/local", Protocol: TCP, Addr: netip.MustParseAddr("203.0.113.7"), Port: 80, To: 11001, Sources: officeV4},
				{Name: "a/silent:sorts-first", Protocol: TCP, Addr: netip.MustParseAddr("203.0.113.7"), Port: 80, To: 11002},
			},
			Pods: Pods{
				Prefixes:   prefixes("10.244.1.0/24", "10.245.0.0/16", "10.244.1.128/25"),
				Interfaces: []string{"cni0", "cali+"},
			},
			NodePortsOn:   prefixes("192.0.2.0/24", "192.0.2.1/32", "127.0.0.0/8"),
			NotOnLoopback: true,
			Open:          []uint16{32001, 32000, 31000, 32001},
			Returning:     Mark{Value: returnMark, Mask: returnMark},
		},
		want: `
*mangle
:USHER-RETURN - [0:0]
-A USHER-RETURN -p tcp -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
-A USHER-RETURN -p udp -m conntrack --ctdir REPLY -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
-A USHER-RETURN -p icmp -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
COMMIT
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p tcp -m tcp --dport 11000:11002 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p tcp -m tcp --dport 11000:11002 -j REJECT --reject-with tcp-reset
-A USHER-INPUT -p tcp -m tcp --dport 31000 -j ACCEPT
-A USHER-INPUT -p tcp -m tcp --dport 32000:32001 -j ACCEPT
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-REDIRECT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -d 127.0.0.0/8 -j RETURN
-A USHER-REDIRECT -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-REDIRECT -d 192.0.2.0/24 -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -s 10.244.1.7/32 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m addrtype --src-type LOCAL -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.245.0.0/16 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m addrtype --src-type LOCAL -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 198.51.100.0/24 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m addrtype --src-type LOCAL -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.244.1.7/32 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.245.0.0/16 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.244.1.7/32 -d 203.0.113.7/32 -i cali+ -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.245.0.0/16 -d 203.0.113.7/32 -i cali+ -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 198.51.100.0/24 -d 203.0.113.7/32 -i cali+ -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.244.1.7/32 -d 203.0.113.7/32 -i cni0 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.245.0.0/16 -d 203.0.113.7/32 -i cni0 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 198.51.100.0/24 -d 203.0.113.7/32 -i cni0 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 10.244.1.7/32 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http/local" -j REDIRECT --to-ports 11001
-A USHER-SERVICES -s 10.245.0.0/16 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http/local" -j REDIRECT --to-ports 11001
-A USHER-SERVICES -s 198.51.100.0/24 -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http/local" -j REDIRECT --to-ports 11001
-A USHER-SERVICES -d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "a/silent:sorts-first" -j REDIRECT --to-ports 11002
-A USHER-NODEPORTS -p tcp -m tcp --dport 30080 -m addrtype --src-type LOCAL -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -s 10.244.1.0/24 -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -s 10.245.0.0/16 -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -i cali+ -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -i cni0 -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http/local" -j REDIRECT --to-ports 11001
COMMIT
`,
	},
	{
		name:   "for some clients, IPv6",
		family: IPv6,
		rules: Rules{
			Redirects: []Redirect{
				{Name: "kube-system/dns:dns", Protocol: UDP, Addr: netip.MustParseAddr("2001:db8:7::7"), Port: 53, To: 11000, Here: true},
				{Name: "kube-system/dns:dns", Protocol: UDP, Addr: netip.MustParseAddr("2001:db8:7::7"), Port: 53, To: 11002, Sources: prefixes("2001:db8:8::/48")},
				{Name: "kube-system/dns:dns", Protocol: UDP, Addr: netip.MustParseAddr("2001:db8:7::7"), Port: 53, To: 11001},
				{Name: "kube-system/dns:dns", Protocol: UDP, Port: 30053, To: 11001},
				{Name: "kube-system/dns:dns", Protocol: UDP, Port: 30053, To: 11001}, // once more
			},
			NodeAddr:      netip.MustParseAddr("2001:db8::1"),
			NotOnLoopback: true,
		},
		want: `
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p udp -m udp --dport 11000:11002 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p udp -m udp --dport 11000:11002 -j DROP
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-DNAT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -d ::1/128 -j RETURN
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -d 2001:db8:7::7/128 -p udp -m udp --dport 53 -m addrtype --src-type LOCAL -m comment --comment "kube-system/dns:dns" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -s 2001:db8:8::/48 -d 2001:db8:7::7/128 -p udp -m udp --dport 53 -m comment --comment "kube-system/dns:dns" -j REDIRECT --to-ports 11002
-A USHER-SERVICES -d 2001:db8:7::7/128 -p udp -m udp --dport 53 -m comment --comment "kube-system/dns:dns" -j REDIRECT --to-ports 11001
-A USHER-NODEPORTS -p udp -m udp --dport 30053 -m comment --comment "kube-system/dns:dns" -j REDIRECT --to-ports 11001
-A USHER-DNAT -j USHER-SERVICES-DNAT
-A USHER-DNAT -d ::1/128 -j RETURN
-A USHER-DNAT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS-DNAT
-A USHER-SERVICES-DNAT -d 2001:db8:7::7/128 -p udp -m udp --dport 53 -m addrtype --src-type LOCAL -m comment --comment "kube-system/dns:dns" -j DNAT --to-destination [2001:db8::1]:11000
-A USHER-SERVICES-DNAT -s 2001:db8:8::/48 -d 2001:db8:7::7/128 -p udp -m udp --dport 53 -m comment --comment "kube-system/dns:dns" -j DNAT --to-destination [2001:db8::1]:11002
-A USHER-SERVICES-DNAT -d 2001:db8:7::7/128 -p udp -m udp --dport 53 -m comment --comment "kube-system/dns:dns" -j DNAT --to-destination [2001:db8::1]:11001
-A USHER-NODEPORTS-DNAT -p udp -m udp --dport 30053 -m comment --comment "kube-system/dns:dns" -j DNAT --to-destination [2001:db8::1]:11001
COMMIT
`,
	},
	{
		name:   "a socket for each frontend of UDP, IPv4",
		family: IPv4,
		rules: Rules{
			Redirects: []Redirect{
				{Name: "kube-system/kube-dns:dns/10.96.0.10:53", Protocol: UDP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 53, To: 11000},
				{Name: "kube-system/kube-dns:dns/NODEPORT", Protocol: UDP, Port: 30053, To: 11001, Here: true},
				{Name: "kube-system/kube-dns:dns/NODEPORT/local", Protocol: UDP, Port: 30053, To: 11002},
				{Name: "kube-system/kube-dns:dns", Protocol: TCP, Port: 30053, To: 11001},
			},
			NodeAddr: netip.MustParseAddr("192.0.2.1"),
		},
		want: `
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p tcp -m tcp --dport 11001 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p tcp -m tcp --dport 11001 -j REJECT --reject-with tcp-reset
-A USHER-INPUT -p udp -m udp --dport 11000:11002 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p udp -m udp --dport 11000:11002 -j DROP
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-DNAT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "kube-system/kube-dns:dns/10.96.0.10:53" -j REDIRECT --to-ports 11000
-A USHER-NODEPORTS -p tcp -m tcp --dport 30053 -m comment --comment "kube-system/kube-dns:dns" -j REDIRECT --to-ports 11001
-A USHER-NODEPORTS -p udp -m udp --dport 30053 -m addrtype --src-type LOCAL -m comment --comment "kube-system/kube-dns:dns/NODEPORT" -j REDIRECT --to-ports 11001
-A USHER-NODEPORTS -p udp -m udp --dport 30053 -m comment --comment "kube-system/kube-dns:dns/NODEPORT/local" -j REDIRECT --to-ports 11002
-A USHER-DNAT -j USHER-SERVICES-DNAT
-A USHER-DNAT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS-DNAT
-A USHER-SERVICES-DNAT -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "kube-system/kube-dns:dns/10.96.0.10:53" -j DNAT --to-destination 192.0.2.1:11000
-A USHER-NODEPORTS-DNAT -p tcp -m tcp --dport 30053 -m comment --comment "kube-system/kube-dns:dns" -j DNAT --to-destination 192.0.2.1:11001
-A USHER-NODEPORTS-DNAT -p udp -m udp --dport 30053 -m addrtype --src-type LOCAL -m comment --comment "kube-system/kube-dns:dns/NODEPORT" -j DNAT --to-destination 192.0.2.1:11001
-A USHER-NODEPORTS-DNAT -p udp -m udp --dport 30053 -m comment --comment "kube-system/kube-dns:dns/NODEPORT/local" -j DNAT --to-destination 192.0.2.1:11002
COMMIT
`,
	},
	{
		name:   "a socket for each frontend of UDP, IPv6",
		family: IPv6,
		rules: Rules{
			Redirects: []Redirect{
				{Name: "shop/dns:dns/fd00:10:96::a:53", Protocol: UDP, Addr: netip.MustParseAddr("fd00:10:96::a"), Port: 53, To: 11000, Here: true},
				{Name: "shop/dns:dns/fd00:10:96::a:53/local", Protocol: UDP, Addr: netip.MustParseAddr("fd00:10:96::a"), Port: 53, To: 11001},
			},
			Returning: Mark{Value: returnMark, Mask: returnMark},
		},
		want: `
*mangle
:USHER-RETURN - [0:0]
-A USHER-RETURN -p tcp -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
-A USHER-RETURN -p udp -m conntrack --ctdir REPLY -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
-A USHER-RETURN -p ipv6-icmp -m socket --transparent -j MARK --set-xmark 0x40000/0x40000
COMMIT
*filter
:USHER-INPUT - [0:0]
-A USHER-INPUT -p udp -m udp --dport 11000:11001 -m conntrack --ctstate DNAT -j ACCEPT
-A USHER-INPUT -p udp -m udp --dport 11000:11001 -j DROP
COMMIT
*nat
:USHER-PREROUTING - [0:0]
:USHER-OUTPUT - [0:0]
:USHER-REDIRECT - [0:0]
:USHER-SERVICES - [0:0]
:USHER-NODEPORTS - [0:0]
:USHER-DNAT - [0:0]
:USHER-SERVICES-DNAT - [0:0]
:USHER-NODEPORTS-DNAT - [0:0]
-A USHER-PREROUTING -g USHER-REDIRECT
-A USHER-OUTPUT -g USHER-REDIRECT
-A USHER-REDIRECT -j USHER-SERVICES
-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
-A USHER-SERVICES -d fd00:10:96::a/128 -p udp -m udp --dport 53 -m addrtype --src-type LOCAL -m comment --comment "shop/dns:dns/fd00:10:96::a:53" -j REDIRECT --to-ports 11000
-A USHER-SERVICES -d fd00:10:96::a/128 -p udp -m udp --dport 53 -m comment --comment "shop/dns:dns/fd00:10:96::a:53/local" -j REDIRECT --to-ports 11001
COMMIT
`,
	},
}

// officeV4 are sources of which one holds pods, and one is a pod.
var officeV4 = prefixes("198.51.100.0/24", "10.245.0.0/16", "10.244.1.7/32")

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}
