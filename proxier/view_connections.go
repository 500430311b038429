package proxier

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// setWaiting says whether the connection waits for its turn.
func (c *connection) setWaiting(waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = waits
}

// setOver is called before the metrics are told of the end: what the connection has moved
// is never counted twice.
func (c *connection) setOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// addAttempts puts attempts into the record.
func (c *connection) addAttempts(some ...observe.Attempt) {
	if len(some) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record.Attempts = append(c.record.Attempts, some...)
}

// moved are the bytes that the metrics do not have yet.
func (c *connection) moved() (in, out int64) {
	c.mu.Lock()
	relay := c.relay
	if c.over {
		relay = nil
	}
	c.mu.Unlock()
	if relay == nil {
		return 0, 0
	}
	return relay.Moved()
}

// pods are those of the endpoints that it has, or has tried.
func (c *connection) pods() (pods []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.there {
		pods = append(pods, c.record.Backend().Pod)
	}
	for i := range c.record.Attempts {
		pods = append(pods, c.record.Attempts[i].Pod)
	}
	return pods
}

func (c *connection) wantedBy(f *observe.Filter) bool {
	if !f.WantsLive(c.record.ServicePort, c.record.Client.Addr()) && f.Pod == "" {
		return false
	}
	var pods []string
	if f.Pod != "" {
		pods = c.pods()
	}
	return f.WantsLive(c.record.ServicePort, c.record.Client.Addr(), pods...)
}

// view tells of the connection as it is now. Of the record it reads what is never changed
// any more: at first the client, then what that has dialled, and the endpoint for as long as
// there is one.
func (c *connection) view(now time.Time) admin.Connection {
	r := c.record
	v := admin.Connection{
		ID: r.ID(), Started: r.Start, AgeSeconds: seconds(now.Sub(r.Start)), State: admin.StateConnecting,
		Namespace: r.Namespace, Service: r.Service, PortName: r.PortName, Family: c.key.Family.String(),
		Client: r.Client.String(), ConnectMs: -1,
	}
	c.mu.Lock()
	if c.admitted {
		v.ClientKind, v.Set, v.Balancer = r.ClientKind.String(), r.Set.String(), r.Balancer.String()
		v.VIP, v.VIPKind, v.Listener = addrText(r.VIP), r.VIPKind.String(), addrText(r.Listener)
	}
	if c.waiting {
		v.State = admin.StateWaiting
	}
	for _, a := range r.Attempts {
		if a.Result != observe.OK {
			v.Attempts = append(v.Attempts, admin.Attempt{
				Endpoint: addrText(a.Backend), Pod: a.Pod, StartMs: milliseconds(a.Start), DurationMs: milliseconds(a.Duration),
				Result: string(a.Result), Errno: a.Errno,
			})
		}
	}
	relay := c.relay
	if c.there {
		e := r.Backend()
		v.State = admin.StateOpen
		v.Endpoint, v.Pod, v.Node, v.Zone = addrText(e.Addr), e.Pod, e.Node, e.Zone
		v.Affinity, v.LocalPort, v.Source, v.ConnectMs = r.Affinity.String(), r.LocalPort, r.Source.String(), milliseconds(r.Connect)
	}
	c.mu.Unlock()
	if relay == nil {
		return v
	}
	v.BytesIn, v.BytesOut = relay.Moved()
	if client, backend := relay.Finished(); v.State == admin.StateOpen && (client || backend) {
		v.State, v.Closed = admin.StateHalfClosed, "backend"
		if client {
			v.Closed = "client"
		}
	}
	return v
}

// look has the kernel tell of both sockets. Before the connection is relayed these belong to
// the goroutine that serves it, and nothing is told.
func (c *connection) look(v *admin.Connection) {
	c.mu.Lock()
	relay := c.relay
	c.mu.Unlock()
	if relay != nil {
		relay.Look(func(client, backend *tcp.Conn) { v.TCPClient, v.TCPBackend = tcpInfo(client), tcpInfo(backend) })
	}
}

// tcpStates are as ss(8) calls them, by their numbers in include/net/tcp_states.h of the
// kernel.
var tcpStates = [...]string{1: "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"}

// tcpInfo is nil if the kernel does not tell.
func tcpInfo(c *tcp.Conn) *admin.TCPInfo {
	info, err := unix.GetsockoptTCPInfo(c.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil
	}
	state := "UNKNOWN"
	if int(info.State) < len(tcpStates) {
		state = cmp.Or(tcpStates[info.State], state)
	}
	return &admin.TCPInfo{
		State: state, RTTMicros: info.Rtt, RTTVarMicros: info.Rttvar, Retransmits: info.Total_retrans, Lost: info.Lost, MSS: info.Snd_mss,
		Cwnd: info.Snd_cwnd, Unacked: info.Unacked,
		Unsent: c.Unsent(), SinceReceived: info.Last_data_recv, SinceSent: info.Last_data_sent, Delivery: info.Delivery_rate,
	}
}

// showConnections lists those that are live, the oldest first.
func (p *Proxier) showConnections(q url.Values) (any, error) {
	now := time.Now()
	f, limit, err := liveFilter(q, now)
	if err != nil {
		return nil, err
	}
	if id := q.Get("id"); id != "" {
		return p.showConnection(id, &f, now)
	}
	list := slices.DeleteFunc(p.data.connections.all(), func(c *connection) bool { return !c.wantedBy(&f) })
	slices.SortFunc(list, func(a, b *connection) int {
		return cmp.Or(a.record.Start.Compare(b.record.Start), a.record.Client.Compare(b.record.Client))
	})
	answer := admin.Connections{Connections: []admin.Connection{}, More: max(0, len(list)-limit)}
	for _, c := range list[:len(list)-answer.More] {
		answer.Connections = append(answer.Connections, c.view(now))
	}
	return answer, nil
}

func (p *Proxier) showConnection(id string, f *observe.Filter, now time.Time) (any, error) {
	for _, c := range p.data.connections.all() {
		if c.record.ID() == id && c.wantedBy(f) {
			v := c.view(now)
			c.look(&v)
			return admin.Connections{Connections: []admin.Connection{v}}, nil
		}
	}
	return nil, notFound("there is no connection %q; it may have ended", id)
}

// The number of live connections or sessions that are listed.
const (
	listedByDefault = 1000
	listedAtMost    = 100_000
)

// liveFilter reads the parameters of lists of what is live.
func liveFilter(q url.Values, now time.Time) (f observe.Filter, limit int, err error) {
	if f, err = filterIn(q, now); err == nil {
		limit, err = numberIn(q, "limit", listedByDefault, listedAtMost)
	}
	return f, limit, err
}

// numberIn is a parameter that has a number from 0.
func numberIn(q url.Values, name string, byDefault, most int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, badRequest("%s=%q: want 0 to %d", name, text, most)
	}
	return n, nil
}

// addrText is empty for what is no address.
func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// milliseconds have three decimals, as in records; less than zero is -1.
func milliseconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return float64(d.Microseconds()) / 1000
}

// seconds have three decimals, and are never negative.
func seconds(d time.Duration) float64 { return max(0, float64(d.Milliseconds())/1000) }
