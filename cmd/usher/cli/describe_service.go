package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/usher-proxy/usher/proxier/admin"
)

// shownConnections and shownCloses are how many of them usher describe service tells.
const (
	shownConnections = 5
	shownCloses      = 20
)

func newDescribeService() *cobra.Command {
	var at adminOptions
	var namespace string
	cmd := &cobra.Command{
		Use:     "service [NAMESPACE/]NAME...",
		Aliases: []string{"services", "svc"},
		Short:   "Tell all about a Service: ports, endpoints, listeners, connections, and how they ended",
		Long: `service tells what the usher on this node knows of a Service: its addresses and ports,
what clients get there, each endpoint and why it is in or out, the sockets it is served
on, the oldest of its connections, the last ones that ended by their reasons, and what
somebody should look at.

The exit code is 0, or 2 if no usher can be asked, 3 if the command line cannot be
meant, 4 if there is no such Service, and 1 if something else is wrong.`,
		Example: `  usher describe service shop/web
  usher describe svc -n kube-system kube-dns`,
		ValidArgsFunction: completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("want the name of a Service")}
			}
			if err := at.check(); err != nil {
				return err
			}
			var p page
			for i, name := range args {
				q, err := serviceQuery(name, namespace)
				if err != nil {
					return err
				}
				if i > 0 {
					p.WriteString("\n\n")
				}
				d := serviceDescription{asker: asker{cmd.Context(), at.socket}, page: &p, query: q}
				if err := d.describe(); err != nil {
					return err
				}
			}
			return p.printTo(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "default", "of a Service that is named without")
	at.define(cmd.Flags())
	flagWords(cmd, nil)
	return cmd
}

// serviceDescription asks and tells about one Service.
type serviceDescription struct {
	asker
	*page
	query url.Values // for it
}

func (d *serviceDescription) describe() error {
	var found []admin.Service
	if err := admin.Get(d.ctx, d.socket, "/v1/services", d.query, &found); err != nil {
		return err
	}
	if len(found) == 0 {
		return &admin.Error{Status: 404, Message: fmt.Sprintf("no Service %s/%s is served", d.query.Get("namespace"), d.query.Get("service"))}
	}
	s := &found[0]
	d.spec(s)
	d.ports(s)
	for _, part := range []func(*admin.Service) error{d.attention, d.endpoints, d.listeners, d.connections, d.sessions, d.closes} {
		if err := part(s); err != nil {
			return err
		}
	}
	return nil
}

func (d *serviceDescription) spec(s *admin.Service) {
	rows := [][2]string{
		{"Name", s.Name},
		{"Namespace", s.Namespace},
		{"Labels", labels.Set(s.Labels).String()},
		{"Type", s.Type},
		{"Cluster IPs", strings.Join(s.Addresses, ", ")},
		{"External", strings.Join(s.External, ", ")},
		{"Affinity", cmp.Or(s.Affinity, "None")},
		{"Policy", fmt.Sprintf("external %s, internal %s", cmp.Or(s.ExternalPolicy, "Cluster"), cmp.Or(s.InternalPolicy, "Cluster"))},
	}
	if len(s.SourceRanges) > 0 {
		rows = append(rows, [2]string{"Sources", strings.Join(s.SourceRanges, ", ")})
	}
	if s.HealthCheckPort > 0 {
		rows = append(rows, [2]string{"Health port", strconv.Itoa(int(s.HealthCheckPort))})
	}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		rows = append(rows, [2]string{"Annotation", key + ": " + s.Annotations[key]})
	}
	d.pairs(append(rows, [2]string{"Age", age(s.Created)}))
}

func (d *serviceDescription) ports(s *admin.Service) {
	d.section("Ports")
	rows := [][]string{{"NAME", "PORT", "NODE-PORT", "BALANCER", "FAMILIES", "ANSWER", "USABLE", "ILL", "ACTIVE", "OPENED", "TROUBLE", "FAILED", "RETRIES", "IN", "OUT"}}
	for _, p := range s.Ports {
		node := ""
		if p.NodePort > 0 {
			node = strconv.Itoa(int(p.NodePort))
		}
		t := p.Traffic
		first := []string{p.Name, fmt.Sprintf("%d/%s", p.Port, p.Protocol), node, p.Balancer}
		last := []string{fmt.Sprint(t.Active), fmt.Sprint(t.Opened), fmt.Sprint(t.Trouble), fmt.Sprint(t.Failed), fmt.Sprint(t.Retries), byteCount(t.BytesIn), byteCount(t.BytesOut)}
		of := func(text func(admin.Family) string) string { // of each, as traffic is of all
			var all []string
			for _, f := range p.Families {
				all = append(all, text(f))
			}
			return strings.Join(all, ",")
		}
		rows = append(rows, slices.Concat(first, []string{
			of(func(f admin.Family) string { return f.Family }), of(func(f admin.Family) string { return f.Answer }),
			of(func(f admin.Family) string { return fmt.Sprintf("%d/%d", f.Usable, f.Endpoints) }), of(func(f admin.Family) string { return fmt.Sprint(f.Ill) }),
		}, last))
	}
	d.rows(rows)
}

// attention is what somebody should look at, about this Service.
func (d *serviceDescription) attention(s *admin.Service) error {
	var all []admin.Attention
	told, err := d.get("/v1/attention", nil, &all)
	if !told {
		return err
	}
	all = slices.DeleteFunc(all, func(a admin.Attention) bool {
		return a.Namespace != s.Namespace || a.Name != s.Name && !(a.Kind == "EndpointSlice" && strings.HasPrefix(a.Name, s.Name+"-"))
	})
	if len(all) > 0 {
		d.section("Attention")
		d.rows(attentionRows(all))
	}
	return nil
}

func (d *serviceDescription) endpoints(*admin.Service) error {
	var ports []admin.ServicePort
	told, err := d.get("/v1/endpoints", d.query, &ports)
	if !told {
		return err
	}
	d.section("Endpoints")
	rows := [][]string{{"PORT", "FAMILY", "ENDPOINT", "POD", "NODE", "SETS", "STATE", "CONNS", "WHY"}}
	for i := range ports {
		for _, r := range endpointRows(&ports[i]) {
			rows = append(rows, []string{portOf(*r.port), r.port.Family, r.Address, r.Pod, r.Node, strings.Join(r.Sets, ","), string(r.State), r.conns(), r.Why})
		}
	}
	d.rows(rows)
	return nil
}

func (d *serviceDescription) listeners(*admin.Service) error {
	var list []admin.Listener
	told, err := d.get("/v1/listeners", d.query, &list)
	if !told {
		return err
	}
	d.section("Listeners")
	rows := [][]string{{"PORT", "FAMILY", "ADDRESS", "SET", "ANSWER", "FRONTENDS"}}
	for _, l := range list {
		rows = append(rows, []string{strings.TrimPrefix(l.PortName+"/"+l.Protocol, "/"), l.Family, l.Address, l.Set, l.Answer, strings.Join(l.Frontends, ", ")})
	}
	d.rows(rows)
	return nil
}

// speaks says whether a port of the Service does.
func speaks(s *admin.Service, protocol string) bool {
	return slices.ContainsFunc(s.Ports, func(p admin.Port) bool { return p.Protocol == protocol })
}

func (d *serviceDescription) connections(s *admin.Service) error {
	if !speaks(s, "tcp") {
		return nil
	}
	q := maps.Clone(d.query)
	q.Set("limit", strconv.Itoa(shownConnections))
	var live admin.Connections
	told, err := d.get("/v1/connections", q, &live)
	if !told {
		return err
	}
	rows := [][]string{{"ID", "STATE", "CLIENT", "ENDPOINT", "POD", "IN", "OUT", "AGE"}}
	for _, c := range live.Connections[:min(len(live.Connections), shownConnections)] {
		rows = append(rows, []string{c.ID, c.State, c.Client, c.Endpoint, c.Pod, byteCount(c.BytesIn), byteCount(c.BytesOut), seconds(c.AgeSeconds)})
	}
	d.lasting("Connections", len(live.Connections)+live.More, ", the oldest first", rows)
	return nil
}

// sessions are those of UDP.
func (d *serviceDescription) sessions(s *admin.Service) error {
	if !speaks(s, "udp") {
		return nil
	}
	q := maps.Clone(d.query)
	q.Set("limit", strconv.Itoa(shownConnections))
	var live admin.Sessions
	told, err := d.get("/v1/sessions", q, &live)
	if !told {
		return err
	}
	rows := [][]string{{"CLIENT", "ENDPOINT", "POD", "ANSWERED", "IN", "OUT", "IDLE", "AGE"}}
	for _, c := range live.Sessions[:min(len(live.Sessions), shownConnections)] {
		rows = append(rows, []string{c.Client, c.Endpoint, c.Pod, fmt.Sprint(c.Answered), fmt.Sprint(c.DatagramsIn), fmt.Sprint(c.DatagramsOut), seconds(c.IdleSeconds), seconds(c.AgeSeconds)})
	}
	d.lasting("UDP sessions", len(live.Sessions)+live.More, "", rows)
	return nil
}

// lasting is a section of what is live, of which there are n.
func (d *serviceDescription) lasting(title string, n int, order string, rows [][]string) {
	if n == 0 {
		d.section(title)
		d.line("  None lasts.")
		return
	}
	d.section(fmt.Sprintf("%s (%d%s)", title, n, order))
	d.rows(rows)
}

// closes are the last ones that ended, by their reasons, with the sentence of the last
// for each.
func (d *serviceDescription) closes(*admin.Service) error {
	q := maps.Clone(d.query)
	q.Set("last", strconv.Itoa(shownCloses))
	type ended struct {
		count int
		last  admin.Flow
	}
	reasons, total := map[string]*ended{}, 0
	err := d.flows(q, func(f *admin.Flow) bool {
		e := reasons[f.Reason]
		if e == nil {
			e = &ended{}
			reasons[f.Reason] = e
		}
		e.count, e.last, total = e.count+1, *f, total+1
		return false
	})
	if err != nil {
		if notTold(err) {
			return nil
		}
		return err
	}
	if total == 0 {
		d.section("Ended lately")
		d.line("  None, as far as usher remembers.")
		return nil
	}
	d.section(fmt.Sprintf("Ended lately (the last %d, by reason)", total))
	rows := [][]string{{"COUNT", "REASON", "SIDE", "LAST", "WHICH SAYS"}}
	for _, reason := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int { return reasons[b].count - reasons[a].count }) {
		e := reasons[reason]
		rows = append(rows, []string{fmt.Sprint(e.count), reason, e.last.Side, age(e.last.End()) + " ago", e.last.Message})
	}
	d.rows(rows)
	return nil
}
