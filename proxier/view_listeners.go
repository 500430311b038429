package proxier

import (
	"context"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// showListeners lists the sockets of Service ports. They belong to the reconcile loop,
// which is asked between two passes.
func (p *Proxier) showListeners(q url.Values) (any, error) {
	f, _, err := liveFilter(q, time.Now())
	if err != nil {
		return nil, err
	}
	list := []admin.Listener{}
	err = p.inLoop(context.Background(), func(context.Context) error {
		for _, l := range p.serving {
			if f.WantsLive(&l.shared.metrics.ServicePort, netip.Addr{}) {
				list = l.appendViews(list)
			}
		}
		if r, ok := p.data.capture.(*redirect); ok && len(q) == 0 {
			list = r.appendDenied(list)
		}
		return nil
	})
	return list, err
}

// appendDenied adds what belongs to no Service: the sockets that answer nobody.
func (r *redirect) appendDenied(list []admin.Listener) []admin.Listener {
	for _, family := range slices.Sorted(maps.Keys(r.denied)) {
		list = append(list, admin.Listener{
			Protocol: tcpProtocol, Family: family.String(), Address: r.denied[family].addr.String(), Answer: silenceAnswer,
			Frontends: []string{"clients outside of " + deniedKey.Name},
		})
	}
	return list
}

func (l *listener) appendViews(list []admin.Listener) []admin.Listener {
	port := l.current.Load().port
	active := l.active.Load()
	if l.shared.sessions != nil {
		active = int64(l.shared.sessions.Len()) // of both families: they share their limits
	}
	for _, s := range l.sockets {
		list = append(list, admin.Listener{
			Namespace: l.key.Namespace, Service: l.key.Name, PortName: l.key.Port, Protocol: l.key.Protocol, Family: l.key.Family.String(),
			Address: s.addr.String(), Answer: s.answers(port), Set: string(s.set), Frontends: s.frontends(port), Active: active,
		})
	}
	return list
}

// gives is the answer that clients get now.
func (s *socket) gives() answer {
	if s.packet != nil {
		return s.packet.now
	}
	return s.stream.now
}

// answers is what clients of the socket get. A bound one is silent where the routes that
// lead to it refuse (bind.answer).
func (s *socket) answers(port *Port) string {
	text := s.gives().text()
	if f, bound := find(port.Frontends, s.addr); bound && text == silenceAnswer && !port.eligible(f.Policy.set(true)).answer().listen {
		return refuseAnswer
	}
	return text
}

// The words for what clients get.
const (
	serveAnswer   = "serve"
	refuseAnswer  = "refuse"
	silenceAnswer = "silence"
)

func (a answer) text() string {
	switch {
	case !a.listen:
		return refuseAnswer
	case a.limited && len(a.only) == 0:
		return silenceAnswer
	}
	return serveAnswer
}

// frontends are those of the Port whose clients arrive at the socket.
func (s *socket) frontends(port *Port) []string {
	list := []string{}
	for _, f := range port.Frontends {
		if s.isFor(port, f) {
			list = append(list, frontendText(f))
		}
	}
	return list
}

func (s *socket) isFor(port *Port, f Frontend) bool {
	switch {
	case s.frontend != Frontend{}: // its policy may have changed
		return f.Kind == s.frontend.Kind && f.Addr == s.frontend.Addr && f.Port == s.frontend.Port
	case s.set != "":
		return f.Policy.set(true) == s.set || f.Policy.set(false) == s.set
	}
	here, ok := find(port.Frontends, s.addr)
	return ok && here == f
}

func frontendText(f Frontend) string {
	if f.Kind == NodePort {
		return f.String()
	}
	return string(f.Kind) + " " + f.String()
}
