package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
)

// endpointRow is an endpoint of a Service port, or none if the port has none.
type endpointRow struct {
	port *admin.ServicePort
	admin.EndpointStatus
}

func newGetEndpoints() *cobra.Command {
	type row = endpointRow
	return kind[admin.ServicePort, row]{
		names: []string{"endpoints", "endpoint", "ep"}, singular: "endpoint", use: "[[NAMESPACE/]SERVICE...]",
		short: "Tell of each endpoint of Services whether it is in or out, and why",
		long: `endpoints tells of every endpoint that the EndpointSlices of a Service name whether
it gets connections from the usher on this node, and why. Without the name of a
Service it tells of all in the namespace.

SETS are those in which an endpoint is eligible: cluster, and local for clients
that are to stay on this node. CONNS are the connections that it has.`,
		example: `  usher get endpoints kube-system/kube-dns
  usher get endpoints -n shop -o wide
  usher get endpoints --all -o json`,
		rows: endpointRows,
		name: func(r *row) string { return r.Address },
		id: func(p *admin.ServicePort) string {
			return p.Namespace + "/" + p.Service + "/" + portOf(*p) + "/" + p.Family
		},
		of:  func(p *admin.ServicePort) (string, string) { return p.Namespace, p.Service },
		ask: ofServices[admin.ServicePort]("/v1/endpoints"),
		columns: []column[row]{
			{title: "SERVICE", cell: func(r *row) string { return r.port.Namespace + "/" + r.port.Service }},
			{title: "PORT", cell: func(r *row) string { return portOf(*r.port) }},
			{title: "FAMILY", cell: func(r *row) string { return r.port.Family }},
			{title: "ENDPOINT", cell: func(r *row) string { return r.Address }},
			{title: "POD", cell: func(r *row) string { return strings.TrimPrefix(r.Pod, r.port.Namespace+"/") }},
			{title: "SETS", cell: func(r *row) string { return strings.Join(r.Sets, ",") }},
			{title: "STATE", cell: func(r *row) string { return string(r.State) }},
			{title: "CONNS", cell: (*row).conns, order: by((*row).connections)},
			{title: "NODE", wide: true, cell: func(r *row) string { return r.Node }},
			{title: "ZONE", wide: true, cell: func(r *row) string { return r.Zone }},
			{title: "WEIGHT", wide: true, cell: (*row).weight, order: by(func(r *row) int { return r.Weight })},
			{title: "BALANCER", wide: true, cell: func(r *row) string { return r.port.Balancer }},
			{title: "WHY", cell: func(r *row) string { return r.Why }},
		},
	}.command()
}

// endpointRows are one for each endpoint, and one for a port without any.
func endpointRows(p *admin.ServicePort) (rows []endpointRow) {
	for _, e := range p.Endpoints {
		rows = append(rows, endpointRow{p, e})
	}
	if len(rows) == 0 {
		rows = append(rows, endpointRow{p, admin.EndpointStatus{Why: "no EndpointSlice names any"}})
	}
	return slices.Clip(rows)
}

func (r *endpointRow) conns() string {
	switch {
	case r.Address == "":
		return ""
	case r.Connections == nil:
		return "<unknown>"
	}
	return strconv.Itoa(*r.Connections)
}

// connections are -1 where nobody knows.
func (r *endpointRow) connections() int {
	if r.Connections == nil {
		return -1
	}
	return *r.Connections
}

func (r *endpointRow) weight() string {
	if r.Weight <= 0 {
		return ""
	}
	return strconv.Itoa(r.Weight)
}

// portOf is http/tcp, or 80/tcp for a port without name.
func portOf(p admin.ServicePort) string {
	name := p.PortName
	if name == "" {
		name = strconv.Itoa(int(p.Port))
	}
	return name + "/" + p.Protocol
}
