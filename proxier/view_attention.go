package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

const (
	// mostAttention bounds what is told at a time.
	mostAttention = 200
	// manyFiles is the part of the files that may be open from which somebody should know.
	manyFiles = 0.9
)

// Attention is what somebody should look at, the worst first. It is safe for concurrent use.
func (p *Proxier) Attention() []admin.Attention {
	v := attention{Proxier: p, list: []admin.Attention{}}
	if v.seen = p.seen.Load(); v.seen != nil {
		v.recently()
		for _, port := range v.seen.ports() {
			v.health(port)
		}
		v.services()
		v.problems()
	}
	v.node()
	slices.SortStableFunc(v.list, func(a, b admin.Attention) int {
		return cmp.Or(
			strings.Compare(a.Severity, b.Severity), // error comes before warning
			strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name),
			strings.Compare(a.Port, b.Port), strings.Compare(a.Reason, b.Reason), strings.Compare(a.Message, b.Message))
	})
	if n := len(v.list) - mostAttention; n > 0 {
		v.list = v.list[:mostAttention]
		v.add(admin.SeverityWarning, p.nodeRef(), "", "More", fmt.Sprintf("%d more are not listed; mend some of these first", n))
	}
	return v.list
}

func (p *Proxier) nodeRef() source.Ref { return source.Ref{Kind: "Node", Name: p.cfg.NodeName} }

// attention collects it.
type attention struct {
	*Proxier
	seen  *seen
	since time.Duration // that recent reaches back
	ports map[*observe.ServicePort]*recentPort
	list  []admin.Attention
}

// recentPort is what has happened at a Service port.
type recentPort struct {
	ended     int
	reasons   map[observe.Reason]int
	errno     string // of the newest that got no endpoint
	unserved  int    // that got none though there are some
	endpoints map[netip.AddrPort]*recentEndpoint
}

type recentEndpoint struct {
	pod           string
	tried, failed int
	why           string // the newest failure
	saved         int    // connections that failed here and got another endpoint
}

func (v *attention) add(severity string, about source.Ref, port, reason, message string) {
	v.list = append(v.list, admin.Attention{
		Severity: severity, Kind: about.Kind, Namespace: about.Namespace, Name: about.Name, Port: port, Reason: reason, Message: message,
	})
}

func (v *attention) addOf(severity string, port seenPort, reason, format string, args ...any) {
	v.add(severity, serviceRef(port.key.Namespace, port.key.Name), port.title(), reason, fmt.Sprintf(format, args...))
}

// title is the port of a Service as people call it: http/tcp.
func (s seenPort) title() string {
	name := s.key.Port
	if name == "" {
		name = fmt.Sprint(s.port.number())
	}
	return name + "/" + s.key.Protocol
}

// recently looks at what has ended of late.
func (v *attention) recently() {
	v.ports = map[*observe.ServicePort]*recentPort{}
	records, reach := v.Proxier.recently(lookBack)
	v.since = reach
	for _, r := range records {
		of := v.ports[r.ServicePort]
		if of == nil {
			of = &recentPort{reasons: map[observe.Reason]int{}, endpoints: map[netip.AddrPort]*recentEndpoint{}}
			v.ports[r.ServicePort] = of
		}
		of.add(r)
	}
}

func (p *recentPort) add(r *observe.Record) {
	p.ended++
	p.reasons[r.Reason]++
	if isUnserved(r.Reason) {
		p.unserved++
		p.errno = cmp.Or(p.errno, r.Errno)
	}
	saved := r.Backend().Addr
	for i := range r.Attempts {
		a := &r.Attempts[i]
		e := p.endpoints[a.Backend]
		if e == nil {
			e = &recentEndpoint{pod: a.Pod}
			p.endpoints[a.Backend] = e
		}
		e.tried++
		if isFailure(a.Result) {
			e.failed++
			e.why = cmp.Or(e.why, a.Errno, string(a.Result))
			if saved.IsValid() && saved != a.Backend {
				e.saved++
			}
		}
	}
}

// isUnserved says whether a connection that ended so had no endpoint, though it should.
func isUnserved(reason observe.Reason) bool {
	switch reason {
	case observe.RetriesExhausted, observe.BackendRefused, observe.BackendUnreachable, observe.ConnectTimeout:
		return true
	}
	return false
}

// health tells of endpoints that are left out, and of those that fail and are not yet.
func (v *attention) health(port seenPort) {
	recent := v.ports[&port.shared.metrics.ServicePort]
	ejected := map[netip.AddrPort]bool{}
	if port.listener.health.Ill() > 0 {
		for _, h := range port.listener.health.Status() {
			if !h.Out {
				continue
			}
			ejected[h.Endpoint] = true
			v.addOf(admin.SeverityWarning, port, "EndpointEjected", "%s is %s%s; look at why it cannot be connected to, or is not well",
				port.endpointName(h.Endpoint), h.Why, inFront("; it ", recent.says(h.Endpoint, v.span())))
		}
	}
	if recent == nil {
		return
	}
	for addr, e := range recent.endpoints {
		if e.failed == 0 || ejected[addr] || familyOf(addr.Addr()) != port.key.Family || !port.hasEndpoint(addr) {
			continue // what has left is nobody's trouble any more
		}
		v.addOf(admin.SeverityWarning, port, "EndpointFailing", "%s %s; look at whether it listens there",
			port.endpointName(addr), recent.says(addr, v.span()))
	}
}

func (s seenPort) hasEndpoint(addr netip.AddrPort) bool {
	return s.port.Cluster.has(addr) || s.port.Local.has(addr)
}

// endpointName is the pod and the address.
func (s seenPort) endpointName(addr netip.AddrPort) string {
	for _, set := range []Set{ClusterSet, LocalSet} {
		for _, e := range s.port.eligible(set).Endpoints {
			if e.Addr == addr && e.Pod != "" {
				return fmt.Sprintf("pod %s (%s)", e.Pod, addr)
			}
		}
	}
	return "endpoint " + addr.String()
}

// says is what attempts at an endpoint have shown, without its subject; empty if there was no
// failure.
func (p *recentPort) says(endpoint netip.AddrPort, span string) string {
	if p == nil || p.endpoints[endpoint] == nil || p.endpoints[endpoint].failed == 0 {
		return ""
	}
	e := p.endpoints[endpoint]
	text := fmt.Sprintf("failed %d of %d attempts in %s (%s)", e.failed, e.tried, span, e.why)
	if e.saved > 0 {
		text += fmt.Sprintf(", %s got another endpoint by a retry", counted(e.saved, "connection"))
	}
	return text
}

// span is how far back recent things reach, in words.
func (v *attention) span() string {
	return "the last " + max(time.Second, v.since.Round(time.Second)).String()
}

// services tells of Service ports, of both families together.
func (v *attention) services() {
	byPort := map[ServicePort][]seenPort{}
	for _, port := range v.seen.ports() {
		byPort[port.key.ServicePort] = append(byPort[port.key.ServicePort], port)
	}
	for _, families := range byPort {
		v.endpoints(families)
		if recent := v.ports[&families[0].shared.metrics.ServicePort]; recent != nil {
			v.limits(families[0], recent)
			if recent.unserved > 0 {
				v.addOf(admin.SeverityError, families[0], "ConnectionsFail", "%d of %s in %s got no endpoint%s; look at its endpoints",
					recent.unserved, counted(recent.ended, "connection"), v.span(), inBrackets(recent.errno))
			}
		}
	}
}

// inFront puts words in front of a text that is not empty.
func inFront(words, text string) string {
	if text == "" {
		return ""
	}
	return words + text
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// endpoints tells of a Service port without any. One whose endpoints are all on other nodes
// is as it should be, unless somebody uses it here.
func (v *attention) endpoints(families []seenPort) {
	elsewhere := false
	named := 0
	for _, f := range families {
		if usable, _ := f.usable(); usable > 0 { // not all are ever left out for their health
			return
		}
		elsewhere = elsewhere || len(f.port.Cluster.Endpoints) > 0
		named += v.namedOf(f)
	}
	port := families[0]
	used := v.ports[&port.shared.metrics.ServicePort] != nil
	for _, f := range families {
		used = used || f.listener.active.Load() > 0
	}
	switch {
	case elsewhere && !used:
	case elsewhere:
		v.addOf(admin.SeverityError, port, "NoLocalEndpoints",
			"it is used on this node, but all of its endpoints are on others, and its traffic policy is Local; run a pod of it here, or change the policy")
	case used:
		v.addOf(admin.SeverityError, port, "NoEndpoints", "clients that used it in %s are refused now: it has no usable endpoint%s", v.span(), whyNone(named))
	default:
		v.addOf(admin.SeverityWarning, port, "NoEndpoints", "it has no usable endpoint%s", whyNone(named))
	}
}

func (v *attention) namedOf(port seenPort) int {
	return namedEndpoints(port.key, v.seen.planner.slicesOf(serviceName{port.key.Namespace, port.key.Name}))
}

// whyNone says what to do about a Service port whose EndpointSlices name so many.
func whyNone(named int) string {
	if named == 0 {
		return "; no EndpointSlice names one: look at its selector, and at whether its pods run"
	}
	return fmt.Sprintf("; of %s none is ready: look at its pods", counted(named, "endpoint"))
}

// remedies are what to do about limits that were hit, with the reasons as Kubernetes Events
// would have them.
var remedies = map[observe.Reason]struct{ reason, remedy string }{
	observe.LimitService: {"ServiceLimitHit", "raise max-connections (an annotation, or --max-connections-per-service)"},
	observe.LimitClient:  {"ClientLimitHit", "raise max-connections-per-client, if these clients may have more"},
	observe.LimitBackend: {"EndpointLimitHit", "raise max-connections-per-endpoint, or add endpoints"},
	observe.RateLimited:  {"RateLimitHit", "raise connection-rate, if clients may be so fast"},
	observe.LimitGlobal:  {"NodeLimitHit", "raise --max-connections, or the limit of open files (LimitNOFILE)"},
	observe.Evicted:      {"SessionsEvicted", "raise udp-max-sessions (an annotation, or --udp-max-sessions-per-service), if so many clients are right"},
	observe.OutOfFiles:   {"OutOfFiles", "raise the limit of open files (LimitNOFILE)"},
	observe.OutOfMemory:  {"OutOfMemory", "give the kernel more memory for sockets (net.ipv4.tcp_mem)"},
	observe.OutOfPorts:   {"OutOfPorts", "widen net.ipv4.ip_local_port_range, or add endpoints"},

	observe.InternalError: {"InternalError", "please report what the log says of it"},
}

func (v *attention) limits(port seenPort, recent *recentPort) {
	for reason, n := range recent.reasons {
		hit, known := remedies[reason]
		if !known {
			continue
		}
		severity, what := admin.SeverityError, "connection"
		switch reason {
		case observe.LimitClient, observe.RateLimited: // asked for, to keep single clients within bounds
			severity = admin.SeverityWarning
		case observe.Evicted:
			severity, what = admin.SeverityWarning, "session"
		}
		v.addOf(severity, port, hit.reason, "%s ended in %s: %s; %s", counted(n, what), v.span(), reason.Text(), hit.remedy)
	}
}

// problems are those that the reconcile loop knows.
func (v *attention) problems() {
	for _, p := range v.seen.problems {
		severity := admin.SeverityWarning
		if p.Reason == "CannotListen" || p.Reason == "CannotWriteRules" {
			severity = admin.SeverityError
		}
		v.add(severity, p.About, "", p.Reason, p.Message)
	}
}

// node tells of usher itself.
func (v *attention) node() {
	node := v.nodeRef()
	v.staleness()
	if files := openFiles(); files.Limit > 0 && float64(files.Used) > manyFiles*float64(files.Limit) {
		v.add(admin.SeverityWarning, node, "", "FilesNearLimit", fmt.Sprintf(
			"%d of %d files are open; raise the limit (LimitNOFILE), else new connections are refused", files.Used, files.Limit))
	}
	if n := v.drops.recent(v.dropped()); n > 0 {
		v.add(admin.SeverityWarning, node, "", "LogDropping", fmt.Sprintf(
			"%s could not be logged: whoever reads the log is too slow, or the disk is full; --log-connections=1/N logs fewer", counted(int(n), "record")))
	}
}

// dropping notices when a count of drops has grown. It is safe for concurrent use, and the
// zero value is ready.
type dropping struct {
	mu    sync.Mutex
	count uint64
	grown time.Time
}

// recent is the count if it has grown of late, as far as anybody has asked, else 0.
func (d *dropping) recent(count uint64) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if count > d.count {
		d.count, d.grown = count, time.Now()
	}
	if d.grown.IsZero() || time.Since(d.grown) > lookBack {
		return 0
	}
	return count
}

// counted is a number of things in words.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (p *Proxier) showAttention(url.Values) (any, error) { return p.Attention(), nil }
