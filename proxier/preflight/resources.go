package preflight

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/limit"
)

const (
	// assumedServices are a good part of a large cluster's, where their number is
	// not known.
	assumedServices = 1000
	// socketsPerService: most have one port or two, and one family.
	socketsPerService = 2
	// wantedConnections is what a node should have room for.
	wantedConnections = 1000
)

// sockets is how many listeners usher will have, about, and for how many Services.
func (n *node) sockets() (sockets int, services string) {
	if n.services < 0 {
		return assumedServices * socketsPerService, fmt.Sprintf("%d Services (a guess)", assumedServices)
	}
	return n.services * socketsPerService, count(n.services, "Service")
}

// files compares what this process may open with what usher needs.
func files(_ context.Context, n *node) Result {
	listeners, services := n.sockets()
	return judgeFiles(limit.Files(), listeners, services)
}

func judgeFiles(most, listeners int, services string) Result {
	free := most - limit.Reserve - listeners*limit.FilesPerListener
	need := limit.Reserve + listeners*limit.FilesPerListener + wantedConnections*limit.FilesPerConnection*16/15 + 1
	do := fmt.Sprintf("start usher with a limit of %d or more (LimitNOFILE= of systemd, ulimit -n)", max(need, 65536))
	if free < 0 {
		return fail(fmt.Sprintf("%d may be open, too few for the sockets of %s", most, services), do)
	}
	text := fmt.Sprintf("%d may be open, room for %d connections at a time beside the sockets of %s", most, limit.RoomIn(free).Connections, services)
	if limit.RoomIn(free).Connections < wantedConnections {
		return warn(text, do)
	}
	return ok(text)
}

// The default of the API server's --service-node-port-range.
var nodePorts = proxier.PortRange{First: 30000, Last: 32767}

// ports looks whether the listeners find ports. One that somebody else has is passed
// over.
func ports(_ context.Context, n *node) Result {
	if !n.mayUseIPTables() {
		return ok("not needed with --capture=bind")
	}
	r := n.Proxier.ProxyPortRange
	taken, err := portsInUse()
	if err != nil {
		return warn(fmt.Sprintf("cannot tell which ports are in use: %v", err), "mount /proc, or look with 'ss -ntul' whether others have ports of --proxy-port-range")
	}
	ephemeral, err := ephemeralPorts()
	if err != nil {
		return warn(fmt.Sprintf("cannot tell the ephemeral ports: %v", err), "look whether net.ipv4.ip_local_port_range shares ports with --proxy-port-range")
	}
	used := 0
	for port := range taken {
		if port >= r.First && port <= r.Last {
			used++
		}
	}
	sockets, services := n.sockets()
	return judgePorts(r, ephemeral, used, sockets, services)
}

func judgePorts(r, ephemeral proxier.PortRange, used, sockets int, services string) Result {
	size := int(r.Last) - int(r.First) + 1
	text := fmt.Sprintf("%s has %d ports, %d of them in use", r, size, used)
	wider := fmt.Sprintf("give --proxy-port-range one with %d ports or more, such as 11000-29999", sockets)
	switch {
	case size < sockets && !strings.HasSuffix(services, "(a guess)"):
		return fail(fmt.Sprintf("%s: too few for %s, and those left over are not served", text, services), wider)
	case overlap(r, nodePorts):
		return warn(fmt.Sprintf("%s shares ports with NodePorts (%s): such a NodePort may be taken by a listener of usher", r, nodePorts),
			"give --proxy-port-range another one, such as 11000-29999")
	case overlap(r, ephemeral):
		return warn(fmt.Sprintf("%s shares ports with net.ipv4.ip_local_port_range (%s): outgoing connections of this node may have them", r, ephemeral),
			"give --proxy-port-range another one, such as 11000-29999")
	case size-used < sockets:
		return warn(fmt.Sprintf("%s: it may be too few for %s, unless it is a running usher that has them", text, services), wider)
	}
	return ok(text)
}

func overlap(a, b proxier.PortRange) bool { return a.First <= b.Last && b.First <= a.Last }

// ephemeralPorts are those of outgoing connections.
func ephemeralPorts() (r proxier.PortRange, err error) {
	text, err := os.ReadFile(sysctlPath("net/ipv4/ip_local_port_range"))
	if err != nil {
		return r, err
	}
	_, err = fmt.Sscan(string(text), &r.First, &r.Last)
	return r, err
}

// portsInUse are those of sockets that are bound without a peer.
func portsInUse() (map[uint16]bool, error) {
	ports := map[uint16]bool{}
	err := eachBound(func(_ string, _ bool, port uint16) { ports[port] = true })
	return ports, err
}

// eachBound calls do for all sockets that are bound without a peer: TCP listeners, and
// UDP. table is their protocol, with a 6 for IPv6. See proc_net_tcp.rst of the kernel's
// documentation.
func eachBound(do func(table string, everywhere bool, port uint16)) error {
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/thread-self/net/" + table)
		if os.IsNotExist(err) && strings.HasSuffix(table, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if everywhere, port, ok := bound(lines.Text()); ok {
				do(table, everywhere, port)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return err
		}
	}
	return nil
}

// bound reads a line like "  0: 0100007F:2B67 00000000:0000 0A ...". everywhere tells that it is
// bound to the wildcard address.
func bound(line string) (everywhere bool, port uint16, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || !strings.HasSuffix(fields[2], ":0000") {
		return false, 0, false
	}
	addr, text, _ := strings.Cut(fields[1], ":")
	n, err := strconv.ParseUint(text, 16, 16)
	return strings.Trim(addr, "0") == "", uint16(n), err == nil && n > 0
}
