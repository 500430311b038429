package proxier

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/proxier/admin"
)

// override keeps new connections from endpoints, as somebody on this node wants it. What
// Kubernetes says of them is not touched.
type override struct {
	target
	uid   uint32
	since time.Time
	// tenant is the pod that had the address when it was drained: another one that gets
	// it later is not meant. Empty: unknown.
	tenant string
}

// target names endpoints: by address or by pod, of some Services or of all.
type target struct {
	addr    netip.Addr
	port    uint16 // 0: all of the address
	pod     string // namespace/name
	service serviceName
}

// maxOverrides is how many there may be.
const maxOverrides = 1024

// overrides are never changed, but replaced.
type overrides []override

// named tells how some of them were named, as they have to be to be taken back.
func (list overrides) named() string {
	var names []string
	for _, o := range list[:min(len(list), maxNear)] {
		names = append(names, o.target.String())
	}
	if len(list) > len(names) {
		names = append(names, fmt.Sprintf("%d more", len(list)-len(names)))
	}
	if len(names) == 0 {
		return ""
	}
	return ", but that is: " + strings.Join(names, "; ")
}

// of is the first that concerns an endpoint of a Service, nil if none does.
func (list overrides) of(service serviceName, addr netip.AddrPort, pod string) *override {
	for i := range list {
		if list[i].concerns(service, addr, pod) && (list[i].tenant == "" || pod == "" || list[i].tenant == pod) {
			return &list[i]
		}
	}
	return nil
}

func (t *target) concerns(service serviceName, addr netip.AddrPort, pod string) bool {
	return (t.service.namespace == "" || t.service.namespace == service.namespace) &&
		(t.service.name == "" || t.service.name == service.name) &&
		(t.pod == "" || t.pod == pod) &&
		(!t.addr.IsValid() || t.addr == addr.Addr() && (t.port == 0 || t.port == addr.Port()))
}

// String is what it is drained by.
func (t target) String() string {
	say := "pod " + t.pod
	switch {
	case t.addr.IsValid() && t.port != 0:
		say = netip.AddrPortFrom(t.addr, t.port).String()
	case t.addr.IsValid():
		say = t.addr.String()
	}
	switch {
	case t.service.name != "":
		say += fmt.Sprintf(" in %s/%s", t.service.namespace, t.service.name)
	case t.service.namespace != "":
		say += " in namespace " + t.service.namespace
	}
	return say
}

// why is told of an endpoint.
func (o *override) why() string {
	return fmt.Sprintf("drained on this node by uid %d at %s", o.uid, o.since.Format("15:04 on 2006-01-02"))
}

// drain takes an endpoint out of the choice. It stays one whose connections may go on.
func (e *endpoint) drain(o *override) {
	if o != nil {
		e.drained, e.stays = o, e.ready
		e.ready, e.serving = false, false
	}
}

// override notes which Services are concerned by a change of what is drained.
func (m *planner) override(before, now overrides) {
	var changed []target
	for _, lists := range [][2]overrides{{before, now}, {now, before}} {
		for _, o := range lists[0] {
			if !slices.Contains(lists[1], o) {
				changed = append(changed, o.target)
			}
		}
	}
	if len(changed) == 0 {
		return
	}
	for _, p := range m.plans {
		if slices.ContainsFunc(p.slices, func(s *discoveryv1.EndpointSlice) bool { return mayConcern(changed, p.name, s) }) {
			m.markStale(p)
		}
	}
}

// mayConcern says whether a target may be one of the endpoints of a slice.
func mayConcern(changed []target, name serviceName, s *discoveryv1.EndpointSlice) bool {
	for _, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		ip, ok := ParseAddr(e.Addresses[0])
		pod := podName(s.Namespace, e.TargetRef)
		for i := range changed {
			t := changed[i]
			t.port = 0
			if ok && t.concerns(name, netip.AddrPortFrom(ip, 0), pod) {
				return true
			}
		}
	}
	return false
}

var drainParameters = []string{"endpoint", "pod", "namespace", "service"}

// targetOf reads the parameters endpoint or pod, namespace and service.
func targetOf(q url.Values) (t target, err error) {
	if t.service, err = serviceIn(q); err != nil {
		return t, err
	}
	if t.service.name != "" && t.service.namespace == "" {
		return t, badRequest("service=%q: want NAMESPACE/NAME", t.service.name)
	}
	endpoint := q.Get("endpoint")
	switch t.pod = q.Get("pod"); {
	case (t.pod == "") == (endpoint == ""):
		return t, badRequest("want endpoint=IP, IP:PORT or pod=NAMESPACE/NAME, one of them")
	case endpoint != "":
		if at, err := netip.ParseAddrPort(endpoint); err == nil && at.Port() != 0 {
			t.addr, t.port = at.Addr().Unmap(), at.Port()
		} else if t.addr, err = netip.ParseAddr(endpoint); err != nil || t.addr.Zone() != "" {
			return t, badRequest("endpoint=%q: want IP or IP:PORT", endpoint)
		}
		t.addr = t.addr.Unmap()
	case !isPodName(t.pod):
		return t, badRequest("pod=%q: want NAMESPACE/NAME", t.pod)
	}
	return t, nil
}

func isPodName(name string) bool {
	namespace, pod, both := strings.Cut(name, "/")
	return both && namespace != "" && pod != "" && !strings.Contains(pod, "/")
}

// drainEndpoint answers when no new connection goes there any more.
func (p *Proxier) drainEndpoint(ctx context.Context, q url.Values) (any, error) {
	t, err := targetOf(q)
	if err != nil {
		return nil, err
	}
	var done []admin.Drained
	uid, _ := admin.Caller(ctx)
	err = p.inLoop(ctx, func(ctx context.Context) error {
		o := override{target: t, uid: uid, since: time.Now()}
		found := p.drained(overrides{o})[0].Endpoints
		list := slices.Clone(p.overrides)
		if i := slices.IndexFunc(list, func(o override) bool { return o.target == t }); i >= 0 {
			if already := p.drained(list[i : i+1]); len(already[0].Endpoints) == len(found) {
				done = already
				return nil
			}
			list = slices.Delete(list, i, i+1) // another pod has got the address since
		}
		switch {
		case len(found) == 0:
			return notFound("no EndpointSlice of a Service that is served here names %s", t)
		case len(list) >= maxOverrides:
			return &admin.Error{Status: http.StatusConflict, Message: fmt.Sprintf("%d are drained already, and no more may be: undrain some", maxOverrides)}
		}
		one := !slices.ContainsFunc(found, func(e admin.DrainedEndpoint) bool { return e.Pod != found[0].Pod })
		if t.addr.IsValid() && one {
			o.tenant = found[0].Pod
		}
		p.override(ctx, append(list, o))
		done = p.drained(overrides{o})
		p.tellDrained(done[0], "EndpointDrained", fmt.Sprintf("%s gets no new connections from this node: %s", t, o.why()))
		return nil
	})
	return done, err
}

// undrainEndpoint takes back what is named exactly, or all.
func (p *Proxier) undrainEndpoint(ctx context.Context, q url.Values) (any, error) {
	var t target
	var err error
	all := q.Get("all") == "true"
	switch {
	case all && len(q) > 1:
		return nil, badRequest("all=true goes with nothing else")
	case all:
	case q.Has("all"):
		return nil, badRequest("all=%q: want true, or leave it out", q.Get("all"))
	default:
		if t, err = targetOf(q); err != nil {
			return nil, err
		}
	}
	done := []admin.Drained{}
	uid, _ := admin.Caller(ctx)
	err = p.inLoop(ctx, func(ctx context.Context) error {
		var stay, back overrides
		for _, o := range p.overrides {
			if all || o.target == t {
				back = append(back, o)
			} else {
				stay = append(stay, o)
			}
		}
		if len(back) == 0 && !all {
			return notFound("%s is not drained%s", t, stay.named())
		}
		done = append(done, p.drained(back)...)
		if len(back) > 0 {
			p.override(ctx, stay)
		}
		for i, o := range back {
			p.tellDrained(done[i], "EndpointUndrained", fmt.Sprintf("%s gets new connections from this node again, as uid %d wants it", o.target, uid))
		}
		return nil
	})
	return done, err
}

// override makes other overrides effective. It belongs to the reconcile loop.
func (p *Proxier) override(ctx context.Context, list overrides) {
	p.overrides = list
	if p.reconcile(ctx, false) < p.cfg.SyncPeriod {
		p.wake() // something has failed, and is to be tried again
	}
}

// tellDrained tells the log, and those who look after the Services.
func (p *Proxier) tellDrained(d admin.Drained, reason, message string) {
	p.cfg.Log.WithField("reason", reason).Warn(message)
	var told []serviceName
	for _, e := range d.Endpoints {
		if name := (serviceName{e.Namespace, e.Service}); len(told) < maxProblems && !slices.Contains(told, name) {
			told = append(told, name)
			p.cfg.Source.Event(serviceRef(name.namespace, name.name), reason, message)
		}
	}
}

// drained tells what became of overrides. It belongs to the reconcile loop.
func (p *Proxier) drained(list overrides) []admin.Drained {
	told := make([]admin.Drained, len(list))
	for i, o := range list {
		told[i] = admin.Drained{Pod: o.pod, Namespace: o.service.namespace, Service: o.service.name, UID: o.uid, Since: o.since, Endpoints: []admin.DrainedEndpoint{}}
		switch {
		case o.addr.IsValid() && o.port != 0:
			told[i].Endpoint = netip.AddrPortFrom(o.addr, o.port).String()
		case o.addr.IsValid():
			told[i].Endpoint = o.addr.String()
		}
	}
	seen := p.seen.Load()
	if seen == nil || len(list) == 0 {
		return told
	}
	targets := make([]target, len(list))
	for i := range list {
		targets[i] = list[i].target
	}
	for _, s := range seen.ports() {
		name := serviceName{s.key.Namespace, s.key.Name}
		if !slices.ContainsFunc(seen.planner.slicesOf(name), func(e *discoveryv1.EndpointSlice) bool { return mayConcern(targets, name, e) }) {
			continue
		}
		view := newPortView(seen.desired, s)
		for i := range list {
			told[i].Endpoints = append(told[i].Endpoints, view.drainedBy(list[i:i+1])...)
		}
	}
	return told
}

// drainedBy are the endpoints of the port that one override concerns.
func (v *portView) drainedBy(one overrides) (list []admin.DrainedEndpoint) {
	for addr, e := range v.all {
		if one.of(serviceName{v.key.Namespace, v.key.Name}, addr, e.Pod) == nil {
			continue
		}
		list = append(list, admin.DrainedEndpoint{
			Namespace: v.key.Namespace, Service: v.key.Name, PortName: v.key.Port, Protocol: v.key.Protocol,
			Address: addr.String(), Pod: e.Pod, Connections: v.connectionsTo(addr),
		})
	}
	slices.SortFunc(list, func(a, b admin.DrainedEndpoint) int { return strings.Compare(a.Address, b.Address) })
	return list
}

func (p *Proxier) showDrained(url.Values) (any, error) {
	list := []admin.Drained{}
	err := p.inLoop(context.Background(), func(context.Context) error {
		list = append(list, p.drained(p.overrides)...)
		return nil
	})
	return list, err
}
