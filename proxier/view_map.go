package proxier

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/udp"
)

// How far back one looks who wants to know what has just happened.
const lookBack = 5 * time.Minute

// mostEdges bounds a map of who talks to whom.
const mostEdges = 500

// edgeKey tells edges apart.
type edgeKey struct {
	client             netip.Addr
	namespace, service string
	endpoint           netip.AddrPort // without address: none
}

// edges are collected by what tells them apart.
type edges map[edgeKey]*admin.Edge

func (t edges) of(client netip.Addr, of *observe.ServicePort, endpoint netip.AddrPort, pod string) *admin.Edge {
	client = client.Unmap()
	key := edgeKey{client, of.Namespace, of.Service, endpoint}
	e := t[key]
	if e == nil {
		e = &admin.Edge{Client: client.String(), Namespace: of.Namespace, Service: of.Service, Endpoint: addrText(endpoint)}
		t[key] = e
	}
	e.Pod = cmp.Or(e.Pod, pod)
	return e
}

// Talk is who has talked to whom of late. It is safe for concurrent use.
func (p *Proxier) Talk() admin.Talk {
	t := edges{}
	records, reach := p.recently(lookBack)
	for _, r := range records {
		t.addRecord(r)
	}
	for _, c := range p.data.connections.all() {
		t.addConnection(c)
	}
	p.data.packets.Look(t.addSession)

	answer := admin.Talk{Seconds: seconds(reach), Edges: make([]admin.Edge, 0, min(len(t), mostEdges))}
	all := make([]*admin.Edge, 0, len(t))
	for _, e := range t {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *admin.Edge) int {
		return cmp.Or(cmp.Compare(b.Count+b.Failed, a.Count+a.Failed), cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.Service, b.Service), strings.Compare(a.Client, b.Client), strings.Compare(a.Endpoint, b.Endpoint))
	})
	answer.More = max(0, len(all)-mostEdges)
	pods := p.clientPods()
	for _, e := range all[:len(all)-answer.More] {
		if client, err := netip.ParseAddr(e.Client); err == nil {
			e.ClientPod = pods[client]
		}
		answer.Edges = append(answer.Edges, *e)
	}
	return answer
}

func (t edges) addRecord(r *observe.Record) {
	backend := r.Backend()
	e := t.of(r.Client.Addr(), r.ServicePort, backend.Addr, backend.Pod)
	e.ClientKind = cmp.Or(e.ClientKind, r.ClientKind.String())
	e.Count++
	e.Bytes += r.BytesIn + r.BytesOut
	if r.Trouble() {
		e.Trouble++
	}
	for i := range r.Attempts {
		if a := &r.Attempts[i]; a.Backend.IsValid() && isFailure(a.Result) {
			t.of(r.Client.Addr(), r.ServicePort, a.Backend, a.Pod).Failed++
		}
	}
}

func (t edges) addConnection(c *connection) {
	in, out := c.moved()
	var to netip.AddrPort
	var pod, kind string
	c.mu.Lock()
	if c.there {
		backend := c.record.Backend()
		to, pod = backend.Addr, backend.Pod
	}
	if c.admitted {
		kind = c.record.ClientKind.String()
	}
	over := c.over // then the ring has it, or will at once
	c.mu.Unlock()
	if over || !to.IsValid() { // nobody knows yet whether one is found for it
		return
	}
	addLive(t.of(c.record.Client.Addr(), c.record.ServicePort, to, pod), kind, in+out)
}

func (t edges) addSession(s udp.Live) {
	of, server := s.Route.Of.(*packetRoute), s.Server.(*packetServer)
	addLive(t.of(s.Client.Addr(), &server.shared.metrics.ServicePort, s.Route.To, of.pick.Endpoint.Pod), string(of.client), s.BytesIn+s.BytesOut)
}

func addLive(e *admin.Edge, kind string, bytes int64) {
	e.ClientKind = cmp.Or(e.ClientKind, kind)
	e.Count++
	e.Active++
	e.Bytes += bytes
}

// isFailure says whether the result of an attempt speaks against its endpoint.
func isFailure(result observe.Reason) bool {
	switch result {
	case observe.BackendRefused, observe.BackendUnreachable, observe.ConnectTimeout, observe.BackendResetEarly:
		return true
	}
	return false
}

// podIndex has the pods of addresses, as EndpointSlices name them. It is made when somebody
// asks, and anew when there are other slices. It is safe for concurrent use.
type podIndex struct {
	mu   sync.Mutex
	from []*discoveryv1.EndpointSlice
	pods map[netip.Addr]string
}

// clientPods are the pods by their addresses. It is not to be changed.
func (p *Proxier) clientPods() map[netip.Addr]string {
	seen := p.seen.Load()
	if seen == nil {
		return nil
	}
	x := &p.podsByAddress
	x.mu.Lock()
	defer x.mu.Unlock()
	if from := seen.objects.Slices; x.pods == nil || !isSameList(x.from, from) {
		x.from, x.pods = from, podsOf(from)
	}
	return x.pods
}

// isSameList says whether two lists that nobody changes are one.
func isSameList[T any](a, b []*T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// podsOf leaves out addresses of several pods: those are the node's, which they share.
func podsOf(list []*discoveryv1.EndpointSlice) map[netip.Addr]string {
	pods := map[netip.Addr]string{}
	for _, slice := range list {
		for _, e := range slice.Endpoints {
			pod := podName(slice.Namespace, e.TargetRef)
			if pod == "" || len(e.Addresses) == 0 {
				continue
			}
			addr, ok := ParseAddr(e.Addresses[0])
			if !ok {
				continue
			}
			if other, known := pods[addr]; known && other != pod {
				pod = ""
			}
			pods[addr] = pod
		}
	}
	return pods
}

func (p *Proxier) showMap(url.Values) (any, error) { return p.Talk(), nil }
