package preflight

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/source"
)

// refusals looks for what bind capture needs to refuse clients of Services without
// endpoints: a TUN interface, and that packets are forwarded to it. Tried: without
// forwarding everything else is served, also from pods and from other nodes.
func refusals(_ context.Context, n *node) Result {
	if !n.binds {
		return ok("no need of forwarding: sockets of this node refuse clients of Services without endpoints")
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return warn(fmt.Sprintf("clients of a Service without endpoints are told that there is no route, instead of being refused (%v)", err),
			"load the kernel module tun, and give usher /dev/net/tun")
	}
	f.Close()
	var off []string
	if value, err := sysctl("net/ipv4/ip_forward"); err == nil && value == 0 {
		off = append(off, "net.ipv4.ip_forward")
	}
	if value, err := sysctl("net/ipv6/conf/all/forwarding"); err == nil && value == 0 && hasIPv6() {
		off = append(off, "net.ipv6.conf.all.forwarding")
	}
	if len(off) > 0 {
		names := strings.Join(off, " and ")
		return warn(names+" is 0: clients in pods and elsewhere of a Service without endpoints wait for an answer, instead of being refused",
			"set "+names+" to 1 (sysctl -w, and a file in /etc/sysctl.d)")
	}
	return ok("clients of Services without endpoints are refused, also those elsewhere")
}

// hasIPv6 says whether this node can be reached from elsewhere by IPv6.
func hasIPv6() bool {
	addrs, _ := netlink.AddrList(nil, unix.AF_INET6)
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.IsGlobalUnicast() })
}

// protocolPort is what a socket listens on.
type protocolPort struct {
	protocol corev1.Protocol
	port     int32
}

// otherServers looks for those that listen on all addresses at the port of a Service:
// then bind capture cannot bind the Service's address.
func otherServers(ctx context.Context, n *node) Result {
	if !n.binds {
		return ok("in nobody's way, as no Service address is bound")
	}
	services, err := n.list(ctx)
	if err != nil {
		return warn("whether they have ports of Services cannot be told: "+oneLine(err), "see to services first")
	}
	servers := map[protocolPort]bool{}
	err = eachBound(func(table string, everywhere bool, port uint16) {
		if everywhere {
			servers[protocolPort{corev1.Protocol(strings.ToUpper(strings.TrimSuffix(table, "6"))), int32(port)}] = true
		}
	})
	if err != nil {
		return warn(fmt.Sprintf("cannot be told: %v", err), "mount /proc, or look with 'ss -ntul' whether others listen on all addresses at ports of Services")
	}
	if list := inTheWay(services, servers); len(list) > 0 {
		return warn(fmt.Sprintf("servers of this node listen on all addresses at ports of Services, which can then not be served here: %s", firstOf(list)),
			"let these servers listen on the node's own addresses only, give the Services other ports, or use --capture=iptables")
	}
	return ok("none listens on all addresses at the port of a Service")
}

// list reads the Services that are to be served.
func (n *node) list(ctx context.Context) ([]*corev1.Service, error) {
	if len(n.Manifests) == 0 {
		if n.REST == nil {
			return nil, fmt.Errorf("no API server is known: %v", n.RESTError)
		}
		return source.ListServices(ctx, n.REST, n.ServiceProxyName)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	m, err := source.NewManifests(n.Manifests, n.Proxier.NodeName, n.ServiceProxyName, log)
	if err != nil {
		return nil, err
	}
	objects, _ := m.Objects()
	return objects.Services, nil
}

// inTheWay are the ports of Services that servers have, as in "default/web 80/TCP".
func inTheWay(services []*corev1.Service, servers map[protocolPort]bool) (list []string) {
	for _, s := range services {
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for _, p := range s.Spec.Ports {
			for _, number := range []int32{p.Port, p.NodePort} {
				if number > 0 && servers[protocolPort{p.Protocol, number}] {
					list = append(list, fmt.Sprintf("%s/%s %d/%s", s.Namespace, s.Name, number, p.Protocol))
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// firstOf is a few of a list, and how many there are beside.
func firstOf(list []string) string {
	const told = 5
	text := strings.Join(list[:min(told, len(list))], ", ")
	if more := len(list) - told; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
