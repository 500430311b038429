package iptables

import "net/netip"

const usherMark = 0x20000

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
}
