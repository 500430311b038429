package proxier

import (
	"net/netip"
	"slices"
)

// hint is a kind of topology hint (EndpointSlice endpoints.hints).
type hint string

const (
	nodeHint hint = "node"
	zoneHint hint = "zone"
)

// topology is the hint by which the endpoints for this node are chosen.
type topology struct {
	kind hint
	name string // of the node or zone
}

// holds says whether an endpoint is meant for this node.
func (t topology) holds(e endpoint) bool {
	switch t.kind {
	case nodeHint:
		return slices.Contains(e.nodes, t.name)
	case zoneHint:
		return slices.Contains(e.zones, t.name)
	}
	return true
}

// topologyOf chooses the hints that all ready endpoints carry and some carry for
// this node: the node's own first, then its zone's. One ready endpoint without a
// hint means that the hints are not complete, and are ignored. Whoever wrote
// them, they are honoured; Service.spec.trafficDistribution is for their writer.
func (d *desired) topologyOf(all map[netip.AddrPort]endpoint) topology {
	for _, t := range []topology{{nodeHint, d.nodeName}, {zoneHint, d.zone}} {
		if t.name != "" && t.isComplete(all) {
			return t
		}
	}
	return topology{}
}

func (t topology) isComplete(all map[netip.AddrPort]endpoint) (meantForUs bool) {
	for _, e := range all {
		if !e.ready {
			continue
		}
		if t.kind == nodeHint && len(e.nodes) == 0 || t.kind == zoneHint && len(e.zones) == 0 {
			return false
		}
		meantForUs = meantForUs || t.holds(e)
	}
	return meantForUs
}
