package reasons

import (
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

// Clients that usher itself turns away.
var refusalScenarios = []scenario{
	{
		reason: observe.NoEndpoints, how: "the last endpoint goes while it waits for its turn", want: one(refusal("no_endpoints", "pick")),
		run: func(l *lab) *observe.Record { return l.lacks(tcpService(), 0) },
	},
	{
		reason: observe.NoReadyEndpoints, how: "the last one gets unready while it waits for its turn", want: one(refusal("no_ready_endpoints", "pick")),
		run: func(l *lab) *observe.Record {
			return l.lacks(tcpService(), 0, end{AddrPort: l.free("127.0.0.1"), unready: true, node: "node-1"})
		},
	},
	{
		reason: observe.NoLocalEndpoints, how: "the last one is on another node while it waits for its turn", want: one(refusal("no_local_endpoints", "pick")),
		run: func(l *lab) *observe.Record {
			s := tcpService()
			local := corev1.ServiceInternalTrafficPolicyLocal
			s.Spec.InternalTrafficPolicy = &local
			return l.lacks(s, 2, end{AddrPort: l.free("127.0.0.1"), node: "node-2"}, end{AddrPort: l.free("127.0.0.2"), node: "node-2"})
		},
	},
	{
		reason: observe.DirectAccess, how: "it dials the listener's port, and the guarding rule is gone", want: one(refusal("direct_access_denied", "accept")),
		change: func(c *proxier.Config) {
			c.Capture, c.ProxyPortRange = "iptables", proxier.PortRange{First: 11000, Last: 11999}
		},
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			at := l.good().Listener
			l.run("iptables -w -F USHER-INPUT")
			return l.turnedAwayFrom(at.String(), net.Dialer{})
		},
	},
	{
		reason: observe.SourceDenied, how: "it is outside of loadBalancerSourceRanges", want: one(refusal("source_denied", "accept")),
		run: func(l *lab) *observe.Record {
			s := tcpService()
			s.Spec.ClusterIP = "127.100.0.2"
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "127.100.0.1"}}
			for i := range 250 { // more than a filter of the socket has room for
				s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, fmt.Sprintf("127.9.%d.0/24", i))
			}
			return l.refusedBy(s, ready(l.endpoint(echo))...)
		},
	},
	{
		reason: observe.LimitGlobal, how: "usher has all the connections that it may", want: one(refusal("limit_global", "accept")),
		change: func(c *proxier.Config) { c.MaxConnections = 1 },
		run:    func(l *lab) *observe.Record { return l.second(tcpService()) },
	},
	{
		reason: observe.LimitService, how: "max-connections", want: one(refusal("limit_service", "accept")),
		run: func(l *lab) *observe.Record { return l.second(tcpService("max-connections=1")) },
	},
	{
		reason: observe.LimitService, how: "max-connections, and its turn does not come", want: one(refusal("limit_service", "accept")),
		run: func(l *lab) *observe.Record { return l.second(tcpService("max-connections=1", "on-limit=wait:100ms")) },
		also: func(r *observe.Record) error {
			if r.Waited == 0 {
				return fmt.Errorf("it has not waited: %s", r.Sentence())
			}
			return nil
		},
	},
	{
		reason: observe.LimitBackend, how: "max-connections-per-endpoint", want: one(refusal("limit_backend", "pick")),
		run: func(l *lab) *observe.Record { return l.second(tcpService("max-connections-per-endpoint=1")) },
	},
	{
		reason: observe.LimitClient, how: "max-connections-per-client", want: one(refusal("limit_client", "accept")),
		run: func(l *lab) *observe.Record { return l.second(tcpService("max-connections-per-client=1")) },
	},
	{
		reason: observe.RateLimited, how: "connection-rate", want: one(refusal("rate_limited", "accept")),
		run: func(l *lab) *observe.Record { return l.second(tcpService("connection-rate=0.1/s,1")) },
	},
	{
		reason: observe.InternalError, how: "a policy panics", want: one("internal_error proxy pick - none none rst none"),
		change: policy(func(balancer.Picker, balancer.Request) (balancer.Pick, error) { panic("a policy with a fault") }),
		run:    func(l *lab) *observe.Record { return l.refusedBy(tcpService(), ready(l.endpoint(echo))...) },
	},
}

// refusal is what is said of a client that is turned away.
func refusal(reason, phase string) string {
	return reason + " proxy " + phase + " - none none rst none"
}

// lacks is the record of a client that waits for its turn, and when that comes has these
// endpoints, of which usable many count.
func (l *lab) lacks(s *corev1.Service, usable int, then ...end) *observe.Record {
	l.Helper()
	s.Annotations["usher-proxy.io/max-connections"], s.Annotations["usher-proxy.io/on-limit"] = "1", "wait:30s"
	l.serve(s, 1, end{AddrPort: l.endpoint(echo), node: "node-1"})
	first, waits := l.talking(), l.client()
	l.becomes(1, "usher_connections_waiting", "")
	l.serve(s, usable, then...)
	first.Close()
	return l.recordOf(waits)
}

// second is the record of a client while another one talks.
func (l *lab) second(s *corev1.Service) *observe.Record {
	l.Helper()
	l.serve(s, 1, ready(l.endpoint(echo))...)
	l.talking()
	return l.turnedAway()
}

// policy has the Service balanced by a function, which may ask the ordinary one.
func policy(pick func(next balancer.Picker, r balancer.Request) (balancer.Pick, error)) func(*proxier.Config) {
	return func(c *proxier.Config) {
		c.Service.Balancer = "own"
		c.Policies = map[string]func() balancer.Policy{"own": func() balancer.Policy { return ownPolicy{pick} }}
	}
}

type ownPolicy struct {
	pick func(balancer.Picker, balancer.Request) (balancer.Pick, error)
}

func (p ownPolicy) Picker(all []balancer.Endpoint) balancer.Picker {
	first, err := balancer.New("first")
	if err != nil {
		panic(err) // it is built in
	}
	return ownPicker{p, first.Picker(all)}
}

type ownPicker struct {
	ownPolicy
	next balancer.Picker
}

func (p ownPicker) Pick(r balancer.Request) (balancer.Pick, error) { return p.pick(p.next, r) }
