package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
)

func newGetServices() *cobra.Command {
	type row = admin.Service
	return kind[row, row]{
		names: []string{"services", "service", "svc"}, singular: "service", use: "[[NAMESPACE/]SERVICE...]",
		short: "List the Services that are served",
		long: `services lists the Services that the usher on this node serves, one a line.

ENDPOINTS are those that get connections, of those that the EndpointSlices name; where
that differs between the ports or the address families of a Service, all are told.
ACTIVE are the connections and UDP sessions that last, OPENED those since the Service
is served, and TROUBLE those that have ended so that a client may have missed
something: usher observe --errors tells why.`,
		example: `  usher get services -A
  usher get svc -n shop -o wide --sort-by=trouble
  usher get svc web -o jsonpath='{.ports[0].traffic.opened}'`,
		rows: itself[row], single: true,
		name: func(s *row) string { return s.Name },
		id:   func(s *row) string { return s.Namespace + "/" + s.Name },
		of:   func(s *row) (string, string) { return s.Namespace, s.Name },
		ask:  ofServices[row]("/v1/services"),
		columns: slices.Concat([]column[row]{
			{title: "NAMESPACE", all: true, cell: func(s *row) string { return s.Namespace }},
			{title: "NAME", cell: func(s *row) string { return s.Name }},
			{title: "TYPE", cell: func(s *row) string { return s.Type }},
			{title: "CLUSTER-IP", cell: clusterIP},
			{title: "PORT(S)", cell: portList},
			{title: "ENDPOINTS", cell: usable, order: by(leastUsable)},
			numeric("ACTIVE", func(s *row) int64 { return traffic(s).Active }),
			numeric("OPENED", func(s *row) uint64 { return traffic(s).Opened }),
			numeric("TROUBLE", func(s *row) uint64 { return traffic(s).Trouble }),
			{title: "AGE", moves: true, cell: func(s *row) string { return age(s.Created) },
				order: func(a, b *row) int { return b.Created.Compare(a.Created) }},
		}, inWide(
			column[row]{title: "EXTERNAL-IP", cell: func(s *row) string { return strings.Join(s.External, ",") }},
			column[row]{title: "FAMILIES", cell: func(s *row) string { return ofFamilies(s, func(f admin.Family) string { return f.Family }) }},
			column[row]{title: "ANSWER", cell: func(s *row) string { return ofFamilies(s, func(f admin.Family) string { return f.Answer }) }},
			column[row]{title: "BALANCER", cell: func(s *row) string { return ofPorts(s, func(p admin.Port) string { return p.Balancer }) }},
			numeric("WAITING", func(s *row) int64 { return traffic(s).Waiting }),
			numeric("FAILED", func(s *row) uint64 { return traffic(s).Failed }),
			numeric("RETRIES", func(s *row) uint64 { return traffic(s).Retries }),
			column[row]{title: "IN", cell: func(s *row) string { return byteCount(traffic(s).BytesIn) },
				order: by(func(s *row) uint64 { return traffic(s).BytesIn })},
			column[row]{title: "OUT", cell: func(s *row) string { return byteCount(traffic(s).BytesOut) },
				order: by(func(s *row) uint64 { return traffic(s).BytesOut })},
		)),
	}.command()
}

// clusterIP is the first, as with kubectl.
func clusterIP(s *admin.Service) string {
	if len(s.Addresses) == 0 {
		return "None"
	}
	return s.Addresses[0]
}

// portList is as kubectl prints it: 80/TCP,443:30443/TCP.
func portList(s *admin.Service) string {
	return ofPorts(s, func(p admin.Port) string {
		text := fmt.Sprint(p.Port)
		if p.NodePort > 0 {
			text += fmt.Sprintf(":%d", p.NodePort)
		}
		return text + "/" + strings.ToUpper(p.Protocol)
	})
}

func usable(s *admin.Service) string {
	return ofFamilies(s, func(f admin.Family) string { return fmt.Sprintf("%d/%d", f.Usable, f.Endpoints) })
}

// leastUsable is of the port and family that has the fewest.
func leastUsable(s *admin.Service) int {
	least := -1
	for _, p := range s.Ports {
		for _, f := range p.Families {
			if least < 0 || f.Usable < least {
				least = f.Usable
			}
		}
	}
	return least
}

// ofPorts are different texts of the ports, each once.
func ofPorts(s *admin.Service, text func(admin.Port) string) string {
	var list []string
	for _, p := range s.Ports {
		if t := text(p); !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return strings.Join(list, ",")
}

// ofFamilies are different texts of the families of the ports, each once.
func ofFamilies(s *admin.Service, text func(admin.Family) string) string {
	var list []string
	for _, p := range s.Ports {
		for _, f := range p.Families {
			if t := text(f); !slices.Contains(list, t) {
				list = append(list, t)
			}
		}
	}
	return strings.Join(list, ",")
}

// traffic is that of all ports.
func traffic(s *admin.Service) (sum admin.Traffic) {
	for _, p := range s.Ports {
		sum = plus(sum, p.Traffic)
	}
	return sum
}

// plus adds up; of what is recent it keeps the slower.
func plus(a, b admin.Traffic) admin.Traffic {
	a.Active += b.Active
	a.Opened += b.Opened
	a.Closed += b.Closed
	a.Trouble += b.Trouble
	a.Failed += b.Failed
	a.Retries += b.Retries
	a.Retried += b.Retried
	a.Waiting += b.Waiting
	a.BytesIn += b.BytesIn
	a.BytesOut += b.BytesOut
	if b.Recent != nil && (a.Recent == nil || cmp.Compare(b.Recent.ConnectP99, a.Recent.ConnectP99) > 0) {
		a.Recent = b.Recent
	}
	return a
}
