package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/udp"
)

// showSessions lists those that are live, the oldest first.
func (p *Proxier) showSessions(q url.Values) (any, error) {
	now := time.Now()
	f, limit, err := liveFilter(q, now)
	if err != nil {
		return nil, err
	}
	answer := admin.Sessions{Sessions: []admin.Session{}}
	found := oldest{most: limit}
	p.data.packets.Look(func(s udp.Live) {
		server, of := s.Server.(*packetServer), s.Route.Of.(*packetRoute)
		if f.WantsLive(&server.shared.metrics.ServicePort, s.Client.Addr(), of.pick.Endpoint.Pod) {
			found.add(s)
		}
	})
	for _, s := range found.end() {
		answer.Sessions = append(answer.Sessions, sessionView(s, now))
	}
	answer.More = found.more
	return answer, nil
}

func sessionView(s udp.Live, now time.Time) admin.Session {
	server, of := s.Server.(*packetServer), s.Route.Of.(*packetRoute)
	e, key := of.pick.Endpoint, server.key
	return admin.Session{
		Started: s.Start, AgeSeconds: seconds(now.Sub(s.Start)), IdleSeconds: seconds(s.Idle),
		Namespace: key.Namespace, Service: key.Name, PortName: key.Port, Family: key.Family.String(),
		Client: s.Client.String(), VIP: vipText(of.vip), Endpoint: s.Route.To.String(), Pod: e.Pod, Node: e.Node,
		Answered: s.FirstReply >= 0, DatagramsIn: s.In, DatagramsOut: s.Out, BytesIn: s.BytesIn, BytesOut: s.BytesOut,
	}
}

// vipText is *:PORT where it is not known which address of the node a client sends to.
func vipText(vip netip.AddrPort) string {
	if !vip.Addr().IsValid() {
		return fmt.Sprintf("*:%d", vip.Port())
	}
	return vip.String()
}

// oldest keeps the sessions that began first, of as many as there may be.
type oldest struct {
	most int
	kept []udp.Live
	more int
}

func (o *oldest) add(s udp.Live) {
	o.kept = append(o.kept, s)
	if len(o.kept) > 2*o.most+1024 {
		o.end()
	}
}

// end returns those that are kept, in order.
func (o *oldest) end() []udp.Live {
	slices.SortFunc(o.kept, func(a, b udp.Live) int {
		return cmp.Or(a.Start.Compare(b.Start), a.Client.Compare(b.Client), strings.Compare(a.Route.To.String(), b.Route.To.String()))
	})
	if n := len(o.kept); n > o.most {
		o.more += n - o.most
		clear(o.kept[o.most:])
		o.kept = o.kept[:o.most]
	}
	return o.kept
}
