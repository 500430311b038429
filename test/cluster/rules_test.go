package cluster

import (
	"fmt"
	"strings"
)

// rules are all chains and rules of the node, of both families, without their
// counters. A built-in chain with nothing in it is as good as none.
func (c *cluster) rules() string {
	c.t.Helper()
	var kept []string
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		table := ""
		for _, line := range strings.Split(c.Run(save), "\n") {
			line, _, _ = strings.Cut(line, " [") // packet and byte counts of a chain
			switch {
			case strings.HasPrefix(line, "*"):
				table = line
			case strings.HasPrefix(line, "-"), strings.HasPrefix(line, ":") && !strings.HasSuffix(line, " ACCEPT"):
				kept = append(kept, fmt.Sprintf("%s %s %s", save, table, line))
			}
		}
	}
	return strings.Join(kept, "\n")
}

// listenerPorts are the ports that the rules redirect each ServicePort to.
func (c *cluster) listenerPorts() map[string]uint16 {
	c.t.Helper()
	ports := map[string]uint16{}
	for _, line := range strings.Split(c.Run("iptables-save", "-t", "nat"), "\n") {
		_, comment, found := strings.Cut(line, "--comment ")
		name, target, redirects := strings.Cut(comment, " -j REDIRECT --to-ports ")
		if found && redirects {
			var port uint16
			fmt.Sscan(target, &port)
			ports[strings.Trim(name, `"`)] = port
		}
	}
	return ports
}
