package proxier

import (
	"fmt"
	"strings"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/source"
)

// strayPods tells of endpoints on this node whose addresses are none of those
// that its pods should have. A network plugin with an address management of its
// own has such; clients at such addresses are not known as pods of this node.
func (p *Proxier) strayPods(ports []*Port, node *nodeState) []Problem {
	wanted := p.cfg.ReturnMark != iptables.Mark{}
	if !wanted || p.cfg.LocalPods.Mode != "" && p.cfg.LocalPods.Mode != "NodeCIDR" {
		return nil
	}
	for i := range ports {
		for _, e := range ports[i].Local.Endpoints {
			addr := e.Addr.Addr()
			if contains(node.clients.certain, addr) || node.clients.local[addr] || addr.IsLoopback() {
				continue
			}
			return []Problem{{source.Ref{Kind: "Node", Name: p.cfg.NodeName}, "PodsUnknown", fmt.Sprintf(
				"pods of this node, such as that at %s, are outside of its podCIDRs (%s): as clients they are not known to be on this node, so endpoints elsewhere see the node's address; see --detect-local-mode",
				addr, prefixList(node))}}
		}
	}
	return nil
}

func prefixList(node *nodeState) string {
	if len(node.clients.certain) == 0 {
		return "its Node object tells none"
	}
	var texts []string
	for _, p := range node.clients.certain {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}
