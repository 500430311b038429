package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

func newDescribeConnection() *cobra.Command {
	var at adminOptions
	cmd := &cobra.Command{
		Use:     "connection ID",
		Aliases: []string{"connections", "conn"},
		Short:   "Tell all about a connection: live, or one that has ended",
		Long: `connection tells all about one connection of the usher on this node: of one that lasts
also what the kernel says of its two sockets (TCP_INFO in tcp(7)), and of one that has
ended the way it went, in the order in which things happened, and how it ended.
usher get connections and usher observe -o wide tell the IDs. usher remembers only the
last connections that have ended: some thousands, unless it is told otherwise.

The exit code is 0, or 2 if no usher can be asked, 3 if the command line cannot be
meant, 4 if there is no such connection, and 1 if something else is wrong.`,
		Example: `  usher describe connection 6921f0a1-4711
  usher describe conn $(usher get conn -s shop/web -o jsonpath='{.items[0].id}')`,
		ValidArgsFunction: completeConnections,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageError{errors.New("want the ID of one connection")}
			}
			if err := at.check(); err != nil {
				return err
			}
			var p page
			if err := (asker{cmd.Context(), at.socket}).connection(&p, args[0]); err != nil {
				return err
			}
			return p.printTo(cmd.OutOrStdout())
		},
	}
	at.define(cmd.Flags())
	return cmd
}

// connection tells about the one with this ID.
func (a asker) connection(p *page, id string) error {
	var live admin.Connections
	told, err := a.get("/v1/connections", url.Values{"id": {id}}, &live)
	switch {
	case err != nil:
		return err
	case told && len(live.Connections) > 0:
		p.live(&live.Connections[0])
		return nil
	}
	f, err := a.ended(id)
	switch {
	case err != nil && !notTold(err):
		return err
	case f == nil:
		return &admin.Error{Status: 404, Message: fmt.Sprintf("usher has no connection %q, and remembers none that has ended", id)}
	}
	p.ended(f)
	return nil
}

// ended looks for the record of a connection in all that usher remembers.
func (a asker) ended(id string) (found *admin.Flow, err error) {
	var s admin.Status
	if _, err := a.get("/v1/status", nil, &s); err != nil {
		return nil, err
	}
	q := url.Values{"last": {strconv.Itoa(cmp.Or(s.Ring.Size, observe.DefaultRingSize))}}
	err = a.flows(q, func(f *admin.Flow) bool {
		if f.ID == id {
			found = f
		}
		return found != nil
	})
	return found, err
}

func (p *page) live(c *admin.Connection) {
	p.pairs([][2]string{
		{"ID", c.ID},
		{"State", c.State},
		{"Started", c.Started.Format(time.RFC3339Nano) + ", " + seconds(c.AgeSeconds) + " ago"},
		{"Service", serviceOf(c.Namespace, c.Service, c.PortName)},
		{"Client", join(c.Client, c.ClientKind)},
		{"Dialled", join(c.VIP, c.VIPKind)},
		{"Listener", c.Listener},
		{"Chosen", join("by "+orNone(c.Balancer), c.Set, c.Affinity)},
		{"Endpoint", join(c.Endpoint, c.Pod, c.Node, c.Zone)},
		{"Connected", milliseconds(c.ConnectMs)},
		{"Source", sourceOf(c.Source, c.LocalPort)},
		{"From client", byteCount(c.BytesIn)},
		{"To client", byteCount(c.BytesOut)},
		{"Closed", strings.TrimSpace(cmp.Or(c.Closed, "neither side") + " has sent FIN")},
	})
	if len(c.Attempts) > 0 {
		p.section("Failed attempts")
		rows := [][]string{{"AFTER", "TOOK", "ENDPOINT", "POD", "RESULT", "ERRNO"}}
		for _, a := range c.Attempts {
			rows = append(rows, []string{milliseconds(a.StartMs), milliseconds(a.DurationMs), a.Endpoint, a.Pod, a.Result, a.Errno})
		}
		p.rows(rows)
	}
	p.kernel(c.TCPClient, c.TCPBackend, nil, nil)
}

// kernel is what the kernel says of the two sockets.
func (p *page) kernel(client, backend *admin.TCPInfo, unsentClient, unsentBackend *int64) {
	sockets := []*admin.TCPInfo{client, backend}
	unsent := []*int64{unsentClient, unsentBackend}
	var rows [][]string
	for i, name := range []string{"client", "endpoint"} {
		t := sockets[i]
		if t == nil {
			continue
		}
		left := int64(t.Unsent)
		if unsent[i] != nil {
			left = *unsent[i]
		}
		var cwnd, sent, delivery string // a record does not have them; no socket has a window of 0
		if t.Cwnd > 0 {
			cwnd, sent, delivery = fmt.Sprint(t.Cwnd), fmt.Sprintf("%dms", t.SinceSent), byteCount(t.Delivery)+"/s"
		}
		rows = append(rows, []string{name, t.State, fmt.Sprintf("%.3gms", float64(t.RTTMicros)/1000), fmt.Sprint(t.Retransmits), fmt.Sprint(t.Lost), cwnd, fmt.Sprint(t.MSS),
			byteCount(left), fmt.Sprintf("%dms", t.SinceReceived), sent, delivery})
	}
	if len(rows) > 0 {
		p.section("Sockets, as the kernel says")
		p.rows(append([][]string{{"TOWARDS", "STATE", "RTT", "RETRANS", "LOST", "CWND", "MSS", "UNACKED", "RECEIVED", "SENT", "DELIVERY"}}, rows...))
	}
}

func (p *page) ended(f *admin.Flow) {
	p.line("%s", f.Message)
	p.WriteByte('\n')
	p.pairs([][2]string{
		{"ID", f.ID},
		{"State", "ended " + age(f.End()) + " ago"},
		{"Reason", join(f.Reason, f.Code, "side: "+f.Side, "phase: "+f.Phase, f.Errno)},
		{"Service", serviceOf(f.Namespace, f.Service, f.PortName)},
		{"Client", join(addressOf(f.ClientIP, f.ClientPort), f.ClientKind)},
		{"Dialled", join(addressOf(f.VIP, f.VIPPort), f.VIPKind)},
		{"Listener", f.Listener},
		{"Chosen", join("by "+orNone(f.Balancer), f.Set, f.Affinity, fmt.Sprintf("of %d", f.Eligible))},
		{"Endpoint", join(addressOf(f.BackendIP, f.BackendPort), f.BackendPod, f.BackendNode, f.BackendZone)},
		{"Source", sourceOf(f.Source, f.LocalPort)},
		{"From client", amount(f, f.BytesIn, f.DatagramsIn)},
		{"To client", amount(f, f.BytesOut, f.DatagramsOut)},
	})
	p.section("What happened, since " + f.Start.Format(time.RFC3339Nano))
	var rows [][]string
	for _, e := range timeline(f) {
		rows = append(rows, []string{fmt.Sprintf("%12s", milliseconds(e.ms)), e.what})
	}
	p.rows(rows)
	p.kernel(f.TCPClient, f.TCPBackend, f.UnsentClient, f.UnsentBackend)
}

// event is something in the life of a connection, milliseconds after its start.
type event struct {
	ms   float64
	what string
}

// timeline is all that is known to have happened, in its order.
func timeline(f *admin.Flow) []event {
	list := []event{{0, "accepted from " + addressOf(f.ClientIP, f.ClientPort)}}
	if f.Protocol == "udp" {
		list[0].what = "first datagram from " + addressOf(f.ClientIP, f.ClientPort)
	}
	happened := func(ms float64, format string, args ...any) {
		if ms >= 0 {
			list = append(list, event{ms, fmt.Sprintf(format, args...)})
		}
	}
	if f.AcceptWaitMs > 0 {
		happened(f.AcceptWaitMs, "its turn has come, at a limit")
	}
	for i, a := range f.Attempts {
		hedged := ""
		if a.Hedged {
			hedged = ", beside the one before"
		}
		happened(a.StartMs, "attempt %d: connects to %s%s", i+1, nameOf(a.Pod, a.Backend), hedged)
		happened(a.StartMs+a.DurationMs, "attempt %d: %s", i+1, resultOf(a))
	}
	happened(f.FirstByteClientMs, "first byte from the client")
	happened(f.FirstByteBackendMs, "first answer of the endpoint")
	if f.Protocol != "udp" {
		happened(f.ClientCloseMs, "the client %s", closing(f.ClientClose))
		happened(f.BackendCloseMs, "the endpoint %s", closing(f.BackendClose))
	}
	slices.SortStableFunc(list, func(a, b event) int { return cmp.Compare(a.ms, b.ms) })
	end := "ended: " + cmp.Or(observe.Reason(f.Reason).Text(), f.Reason)
	if sent := sentOf(f); sent != "" {
		end += "; " + sent
	}
	return append(list, event{max(f.DurationMs, list[len(list)-1].ms), end})
}

func resultOf(a admin.FlowAttempt) string {
	if a.Result == string(observe.OK) {
		return "connected"
	}
	return join(cmp.Or(observe.Reason(a.Result).Text(), a.Result), a.Errno)
}

// closing says in words how a side ended.
func closing(how string) string {
	switch how {
	case observe.CloseFIN.String():
		return "sent FIN: it has nothing more to say"
	case observe.CloseRST.String():
		return "sent RST"
	case observe.CloseTimeout.String():
		return "stopped answering"
	case observe.CloseLocal.String():
		return "was destroyed on this node (as ss -K does)"
	}
	return "ended (" + orNone(how) + ")"
}

// sentOf is what usher sent to each side at the end.
func sentOf(f *admin.Flow) string {
	var sent []string
	for _, s := range [][2]string{{"client", f.SentClient}, {"endpoint", f.SentBackend}} {
		if s[1] != "" && s[1] != observe.CloseNone.String() {
			sent = append(sent, strings.ToUpper(s[1])+" to the "+s[0])
		}
	}
	if len(sent) == 0 {
		return ""
	}
	return "usher sent " + strings.Join(sent, ", ")
}

// amount is what passed one way.
func amount(f *admin.Flow, bytes, datagrams int64) string {
	if f.Protocol == "udp" {
		return fmt.Sprintf("%d datagrams, %s", datagrams, byteCount(bytes))
	}
	return byteCount(bytes)
}

// addressOf is IP:port, and empty without an IP.
func addressOf(ip string, port uint16) string {
	if ip == "" {
		return ""
	}
	return net.JoinHostPort(ip, strconv.Itoa(int(port)))
}

func serviceOf(namespace, name, port string) string {
	return strings.TrimSuffix(namespace+"/"+name+":"+port, ":")
}

func nameOf(pod, address string) string {
	if pod == "" {
		return address
	}
	return pod + " (" + address + ")"
}

// sourceOf says whose address the endpoint sees, and our port towards it.
func sourceOf(source string, port uint16) string {
	if source == "" {
		return ""
	}
	return fmt.Sprintf("the endpoint sees the address of the %s, port %d", source, port)
}

// join is the first text, with those of the others that are not empty in brackets.
func join(first string, more ...string) string {
	more = slices.DeleteFunc(more, func(s string) bool { return s == "" })
	if first == "" || len(more) == 0 {
		return first
	}
	return first + " (" + strings.Join(more, ", ") + ")"
}
