package observe

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// Attempt is one try to connect to one endpoint.
type Attempt struct {
	Backend  netip.AddrPort
	Pod      string
	Start    time.Duration // since the connection was accepted
	Duration time.Duration
	// Result is ok, or the Reason that this attempt alone would have ended with.
	Result Reason
	// Errno is the kernel's name of the error (ECONNREFUSED), empty if none.
	Errno string
}

// Close is how one side of a connection ended.
type Close string

// The ways to end. CloseLocal: usher ended it, not the peer.
const (
	CloseNone    Close = "none"
	CloseFIN     Close = "fin"
	CloseRST     Close = "rst"
	CloseTimeout Close = "timeout"
	CloseLocal   Close = "local"
)

// Record is the story of one connection. One goroutine fills it in at a time;
// after Observer.Closed nobody changes it any more.
type Record struct {
	ID    string
	Node  string // the own node
	Start time.Time

	Namespace, Service, PortName string
	Protocol                     string // tcp
	Family                       int    // 4 or 6

	Client     netip.AddrPort
	ClientKind string         // node, pod or external: where it is, seen from this node
	VIP        netip.AddrPort // what the client dialled
	VIPKind    string         // cluster, node_port, external or load_balancer
	Listener   netip.AddrPort // the local address that it was accepted on

	Backend   balancer.Endpoint // the endpoint that answered, zero if none
	LocalPort uint16            // our source port towards it
	Source    string            // client or node: whose address it sees
	SourceWhy string            // why it sees the node's: not_promised, off, or an obstacle (package transparent)
	Balancer  string
	Affinity  string // hit, new or broken: what session affinity had to do with the choice; empty: none
	Set       string // cluster or local: which endpoints were eligible for the client
	Eligible  int    // how many these were when it was accepted
	// ServiceActive and GlobalActive are the connections being served when it
	// was accepted, itself included: of its Service port, and in all.
	ServiceActive, GlobalActive int
	Attempts                    []Attempt

	Connect  time.Duration // of the attempt that succeeded, -1 if none did
	Duration time.Duration
	BytesIn  int64 // from the client
	BytesOut int64 // to the client

	Reason Reason
	Errno  string
	// How each side ended and when, since the start; -1 is never.
	ClientClose, BackendClose     Close
	ClientCloseAt, BackendCloseAt time.Duration
	// What usher sent to each side.
	SentClient, SentBackend Close
}

// Fields are the keys and values of the record's log line. Times are in
// milliseconds with three decimals, -1 where something never happened.
func (r *Record) Fields() map[string]any {
	f := map[string]any{
		"v": 1, "event": "conn.close", "id": r.ID, "node": r.Node,
		"start": r.Start.UTC().Format(time.RFC3339Nano),
		"proto": r.Protocol, "family": r.Family,
		"ns": r.Namespace, "service": r.Service, "port_name": r.PortName,
		"client_ip": r.Client.Addr().String(), "client_port": r.Client.Port(),
		"listener": r.Listener.String(),
		"balancer": r.Balancer, "eligible": r.Eligible,
		"svc_active": r.ServiceActive, "global_active": r.GlobalActive,
		"attempts": r.attempts(), "attempts_total": len(r.Attempts),
		"connect_ms": milliseconds(r.Connect), "duration_ms": milliseconds(r.Duration),
		"bytes_in": r.BytesIn, "bytes_out": r.BytesOut,
		"reason": string(r.Reason), "code": r.Reason.Code(),
		"side": string(r.Reason.Side()), "phase": r.Reason.Phase(),
		"client_close": string(r.ClientClose), "client_close_ms": milliseconds(r.ClientCloseAt),
		"backend_close": string(r.BackendClose), "backend_close_ms": milliseconds(r.BackendCloseAt),
		"sent_client": string(r.SentClient), "sent_backend": string(r.SentBackend),
	}
	if r.VIP.IsValid() {
		f["vip"], f["vip_port"], f["vip_kind"] = r.VIP.Addr().String(), r.VIP.Port(), r.VIPKind
	}
	if r.Backend.Addr.IsValid() {
		f["backend_ip"], f["backend_port"] = r.Backend.Addr.Addr().String(), r.Backend.Addr.Port()
		f["local_port"], f["source"] = r.LocalPort, r.Source
		setIf(f, "source_why", r.SourceWhy)
		f["backend_local"] = r.Backend.Node != "" && r.Backend.Node == r.Node
		setIf(f, "backend_pod", r.Backend.Pod)
		setIf(f, "backend_node", r.Backend.Node)
		setIf(f, "backend_zone", r.Backend.Zone)
	}
	setIf(f, "client_ip_kind", r.ClientKind)
	setIf(f, "set", r.Set)
	setIf(f, "affinity", r.Affinity)
	setIf(f, "errno", r.Errno)
	return f
}

func setIf(f map[string]any, key, value string) {
	if value != "" {
		f[key] = value
	}
}

func milliseconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return float64(d.Microseconds()) / 1000
}

// attempt is an Attempt as the log shows it.
type attempt struct {
	Backend  string  `json:"backend"`
	Pod      string  `json:"pod,omitempty"`
	StartMS  float64 `json:"start_ms"`
	Duration float64 `json:"dur_ms"`
	Result   Reason  `json:"result"`
	Errno    string  `json:"errno,omitempty"`
}

// attempts prints as a JSON list in a JSON log, and compactly in a text log.
type attempts []attempt

func (r *Record) attempts() attempts {
	list := make(attempts, len(r.Attempts))
	for i, a := range r.Attempts {
		list[i] = attempt{a.Backend.String(), a.Pod, milliseconds(a.Start), milliseconds(a.Duration), a.Result, a.Errno}
	}
	return list
}

func (list attempts) String() string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.Backend + "=" + string(a.Result)
		if a.Errno != "" {
			words[i] += "(" + a.Errno + ")"
		}
	}
	return strings.Join(words, ",")
}

// Sentence tells the record in one plain sentence.
func (r *Record) Sentence() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s/%s", r.Namespace, r.Service)
	if r.PortName != "" {
		fmt.Fprintf(&s, ":%s", r.PortName)
	}
	if r.Backend.Addr.IsValid() {
		fmt.Fprintf(&s, " served by %s", name(r.Backend.Pod, r.Backend.Addr))
		if failed := len(r.Attempts) - 1; failed > 0 {
			first := r.Attempts[0]
			fmt.Fprintf(&s, " after %s on %s (%s)", plural(failed, "failed attempt"), name(first.Pod, first.Backend), first.why())
			if failed > 1 {
				s.WriteString(" and others")
			}
		}
	}
	fmt.Fprintf(&s, ": %s", r.Reason.Text())
	return s.String()
}

// why is the kernel's name of the error, or what usher calls it.
func (a Attempt) why() string {
	if a.Errno != "" {
		return a.Errno
	}
	return string(a.Result)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func name(pod string, addr netip.AddrPort) string {
	if pod != "" {
		return pod
	}
	return addr.String()
}
