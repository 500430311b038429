package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/limit"
)

// explainer follows a client that does not come, step by step, by what the data path
// itself decides with.
type explainer struct {
	*portView
	admin.Explanation
	arrival
	ctx     context.Context
	node    *nodeState
	client  netip.Addr // of nobody in particular: one of this node's
	kind    clientKind
	vip     netip.AddrPort
	order   []balancer.Endpoint // that the policy would keep
	bound   netip.AddrPort      // by session affinity, where that decides
	failing bool                // no endpoint could be connected to of late
}

// What a client gets (Explanation.Answer).
const (
	answerServe   = "serve"
	answerRefuse  = "refuse"
	answerSilence = "silence"
	answerReset   = "reset"
)

func (e *explainer) step(name, result, text string, evidence ...string) {
	e.Steps = append(e.Steps, admin.Step{Name: name, Result: result, Text: text, Evidence: evidence})
}

// stop ends the way with what the client gets.
func (e *explainer) stop(name, answer, text string, evidence ...string) {
	e.step(name, admin.StepStop, text, evidence...)
	e.Answer, e.Verdict = answer, fmt.Sprintf("%s: %s.", map[string]string{
		answerRefuse: "The client is refused", answerSilence: "The client gets no answer", answerReset: "The connection is reset",
	}[answer], text)
}

// address is the one that the client would dial, by default the ClusterIP.
func (e *explainer) address(asked netip.AddrPort) (netip.AddrPort, error) {
	var all []string
	for _, f := range e.port.Frontends {
		all = append(all, f.String())
		on := []netip.Addr{f.Addr}
		if f.Kind == NodePort {
			on = e.node.serving(e.key.Family)
		}
		if len(on) == 0 || asked.Port() != 0 && asked.Port() != f.Port {
			continue
		}
		if !asked.IsValid() && !asked.Addr().IsValid() {
			if f.Kind == NodePort && slices.Contains(on, e.node.primary(e.key.Family)) {
				on[0] = e.node.primary(e.key.Family)
			}
			return netip.AddrPortFrom(on[0], f.Port), nil
		}
		if slices.Contains(on, asked.Addr()) {
			return netip.AddrPortFrom(asked.Addr(), f.Port), nil
		}
	}
	dialled := asked.Addr().String()
	if asked.Port() != 0 {
		dialled = asked.String()
	}
	return asked, notFound("%s is no address of %s on this node, only: %s", dialled, e.key, strings.Join(all, ", "))
}

// identify finds out who the client is, and so what is eligible for it.
func (e *explainer) identify(client netip.Addr) {
	e.client = client
	switch {
	case client.IsValid():
		e.Client = client.String()
	case e.vip.Addr().IsLoopback():
		e.client = e.vip.Addr() // the kernel takes the same
	case e.node.primary(e.key.Family).IsValid():
		e.client = e.node.primary(e.key.Family)
	case e.key.Family == IPv6:
		e.client = netip.IPv6Loopback()
	default:
		e.client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	e.kind = e.clients.Load().kind(e.client)
	e.arrival, _ = e.arrive(e.client, e.kind, e.vip)
	e.Kind, e.VIP = string(e.kind), e.vip.String()
	e.sets = []Set{e.set} // what the client can get of each endpoint
}

// explain takes the steps in their order, up to the one that ends the way.
func (e *explainer) explain() {
	e.explainAddress()
	for _, next := range []func(){
		e.explainPolicy, e.explainSource, e.explainRule, e.explainListener, e.explainLimits,
		e.explainAffinity, e.explainEndpoints, e.explainBalancer,
	} {
		if next(); e.Answer != "" {
			break
		}
	}
	e.candidates()
	if e.Answer == "" {
		e.Answer, e.Verdict = answerServe, e.serves()
	}
}

var kindNames = map[Kind]string{
	ClusterIP: "the ClusterIP", NodePort: "a NodePort", ExternalIP: "an external address", LoadBalancer: "an address of the load balancer",
}

func (e *explainer) explainAddress() {
	var others []string
	for _, f := range e.port.Frontends {
		if f != e.frontend {
			others = append(others, "also served: "+frontendText(f))
		}
	}
	e.step("address", admin.StepOK, fmt.Sprintf("%s/%s is %s of %s", e.vip, e.key.Protocol, kindNames[e.frontend.Kind], e.key.ServicePort), others...)
}

var clientNames = map[clientKind]string{
	nodeClient: "a process of this node", podClient: "a pod of this node", externalClient: "outside of this node",
}

// who names the client for a sentence.
func (e *explainer) who() string {
	if e.Client == "" {
		return "a process of this node"
	}
	return fmt.Sprintf("%s (%s)", e.client, clientNames[e.kind])
}

func (e *explainer) explainPolicy() {
	var why string
	switch f := e.frontend; {
	case f.Policy == Cluster:
		why = "nothing restricts it to endpoints of one node"
	case f.Policy == InternalLocal:
		why = "internalTrafficPolicy: Local allows only endpoints of this node"
	case e.set == LocalSet:
		why = "externalTrafficPolicy: Local allows clients outside of this node only its endpoints"
	default:
		why = "externalTrafficPolicy: Local does not bind clients on this node"
	}
	var evidence []string
	if e.Client == "" {
		evidence = append(evidence, fmt.Sprintf("no client was named: what follows is for one at %s", e.client))
	}
	now := e.port.eligible(e.set)
	if now.Topology != "" {
		evidence = append(evidence, fmt.Sprintf("topology hints narrow the set to this %s", now.Topology))
	}
	e.step("policy", admin.StepOK, fmt.Sprintf("the client is %s, and gets the %s set: %s", clientNames[e.kind], e.set, why), evidence...)
}

func (e *explainer) explainRule() {
	trail, err := e.capture.trail(e.ctx, e.listener, e.frontend, e.vip, e.set, e.kind)
	switch {
	case err != nil:
		e.step("rule", admin.StepNote, fmt.Sprintf("whether the kernel leads it to usher could not be found out: %v", err), trail.lines...)
	case len(trail.missing) > 0:
		var evidence []string
		for _, m := range trail.missing {
			evidence = append(evidence, "missing: "+m)
		}
		answer := answerSilence // of wherever the node's routes lead
		if e.local[e.vip.Addr()] {
			answer = answerRefuse
		}
		e.stop("rule", answer, "the kernel lacks what leads it to usher (usher rules repair)", evidence...)
	case len(trail.lines) == 0:
		e.step("rule", admin.StepOK, "no rule is needed: the kernel delivers to usher's socket on that address itself")
	default:
		e.step("rule", admin.StepOK, "the kernel leads it to usher", trail.lines...)
	}
}

func (e *explainer) explainSource() {
	restricted := e.frontend.Kind == LoadBalancer && e.port.SourceRanges != nil
	ranges := make([]string, len(e.port.SourceRanges))
	for i, r := range e.port.SourceRanges {
		ranges[i] = r.String()
	}
	switch {
	case e.admitted && !restricted:
		e.step("source", admin.StepOK, "everybody may use this address")
	case e.admitted:
		e.step("source", admin.StepOK, "the client is in loadBalancerSourceRanges", ranges...)
	case e.key.Protocol == udpProtocol || e.denies():
		e.stop("source", answerSilence, "the client is outside of loadBalancerSourceRanges", ranges...)
	default: // there are too many ranges for the kernel
		e.stop("source", answerReset, "the client is outside of loadBalancerSourceRanges", ranges...)
	}
}

// denies says whether the kernel keeps clients silent that are out of the source ranges.
func (e *explainer) denies() bool {
	if s := e.socket(); s != nil && s.addr.Addr() == e.vip.Addr() { // bound: its filter does it
		return s.answer().limited && len(s.answer().only) <= maxFilterPrefixes
	}
	return silences(e.port)
}

// socket is the one that the client arrives at, nil if there is none.
func (e *explainer) socket() *socket {
	to := destinationOf(e.port, e.frontend, e.set)
	for _, s := range e.sockets {
		if s.addr == e.vip || s.set != "" && s.destination() == to {
			return s
		}
	}
	return nil
}

// answer is what its clients get.
func (s *socket) answer() answer {
	if s.packet != nil {
		return s.packet.now
	}
	return s.stream.now
}

func (e *explainer) explainListener() {
	s := e.socket()
	if s == nil {
		e.stop("listener", answerRefuse, "usher has no socket for it; its log says why (CannotListen)")
		return
	}
	now, evidence := s.answer(), []string{}
	if now.limited {
		evidence = append(evidence, fmt.Sprintf("the socket is silent to all but %d networks", len(now.only)))
	}
	heard := !now.limited || len(now.only) > maxFilterPrefixes || contains(now.only, e.client)
	at := fmt.Sprintf("the socket on %s", s.addr)
	set := e.port.eligible(e.set)
	switch wanted := set.answer(); {
	case !wanted.listen:
		e.stop("listener", answerRefuse, fmt.Sprintf("no endpoint is usable in the %s set, so clients are refused", e.set), at+" does not serve")
	case wanted.limited && e.frontend.Policy == InternalLocal:
		e.stop("listener", answerSilence, "no endpoint of this node is usable, and internalTrafficPolicy: Local allows none of the other nodes", at+" is silent")
	case wanted.limited:
		e.stop("listener", answerSilence, "no endpoint of this node is usable, but other nodes have some: silence lets the load balancer find one of these", at+" is silent")
	case !now.listen:
		e.stop("listener", answerRefuse, at+" does not serve yet, though there are endpoints; the next pass mends that")
	case !heard:
		e.stop("listener", answerSilence, at+" does not hear this client", evidence...)
	default:
		e.step("listener", admin.StepOK, at+" serves", evidence...)
	}
}

func (e *explainer) explainLimits() {
	if e.shared.gate == nil {
		n, most := e.shared.sessions.Len(), e.port.Settings.UDP.Sessions
		if n >= most {
			e.step("limits", admin.StepNote, "the Service port has as many sessions as it may: another one ends for a new one", fmt.Sprintf("sessions: %d of %d", n, most))
		} else {
			e.step("limits", admin.StepOK, "there is room for another session", fmt.Sprintf("sessions: %d of %d", n, most))
		}
		return
	}
	now := e.shared.gate.Standing(e.client)
	evidence := []string{
		fmt.Sprintf("the Service port: %s", ofMost(now.Admitted, now.Limits.Connections)),
		fmt.Sprintf("all of usher: %s", ofMost(now.Process, now.Room)),
	}
	if now.Limits.PerClient > 0 {
		evidence = append(evidence, fmt.Sprintf("this client: %s", ofMost(now.OfClient, now.Limits.PerClient)))
	}
	if now.Limits.Rate.PerSecond > 0 {
		evidence = append(evidence, fmt.Sprintf("at most %g connections a second, %d at once", now.Limits.Rate.PerSecond, now.Limits.Rate.Burst))
	}
	if now.Waiting > 0 {
		evidence = append(evidence, fmt.Sprintf("%d wait for their turn", now.Waiting))
	}
	obstacle := now.Obstacle
	if most := now.Limits.PerEndpoint; most > 0 {
		evidence = append(evidence, fmt.Sprintf("each endpoint: at most %d connections", most))
		if obstacle == "" && !slices.ContainsFunc(e.port.eligible(e.set).Endpoints, func(o balancer.Endpoint) bool { return e.connections[o.Addr] < most }) {
			obstacle = limit.PerEndpoint
		}
	}
	switch {
	case obstacle == "":
		e.step("limits", admin.StepOK, "no limit is reached", evidence...)
	case now.Limits.Wait > 0:
		e.step("limits", admin.StepNote, fmt.Sprintf("%s: it waits for its turn, for %s at most, and is reset then", limitReasons[obstacle].Text(), now.Limits.Wait), evidence...)
	default:
		e.stop("limits", answerReset, limitReasons[obstacle].Text(), evidence...)
	}
}

func ofMost(n, most int) string {
	if most <= 0 {
		return fmt.Sprintf("%d connections, without a limit", n)
	}
	return fmt.Sprintf("%d of %d connections", n, most)
}

func (e *explainer) explainAffinity() {
	if e.port.Affinity == 0 || e.shared.affinity == nil {
		e.step("affinity", admin.StepOK, "clients are not bound to endpoints (sessionAffinity: None)")
		return
	}
	to, ago, known := e.shared.affinity.Of(e.client)
	ago = ago.Round(time.Second)
	switch {
	case !known:
		e.step("affinity", admin.StepOK, fmt.Sprintf("the client is bound to no endpoint; the one that it gets keeps it for %s (sessionAffinity: ClientIP)", e.port.Affinity))
	case ago >= e.port.Affinity:
		e.step("affinity", admin.StepOK, fmt.Sprintf("the client was bound to %s, but it last connected %s ago, and the timeout is %s", to, ago, e.port.Affinity))
	case !e.port.eligible(e.set).has(to) || e.listener.health.Out(string(e.set), to):
		e.step("affinity", admin.StepNote, fmt.Sprintf("the client was sent to %s %s ago, which is not to be used now: it is bound to another one", to, ago))
	default:
		e.bound = to
		e.step("affinity", admin.StepOK, fmt.Sprintf("the client was sent to %s %s ago, within the timeout of %s, and is again", to, ago, e.port.Affinity))
	}
}

func (e *explainer) explainEndpoints() {
	set := e.port.eligible(e.set)
	out := 0
	for _, o := range set.Endpoints {
		if e.listener.health.Out(string(e.set), o.Addr) {
			out++
		}
	}
	text := fmt.Sprintf("%d of %d endpoints are usable for this client", len(set.Endpoints)-out, len(e.all)+len(e.port.Excluded))
	var evidence []string
	if out > 0 {
		evidence = append(evidence, fmt.Sprintf("ready, but left out for their health: %d; tried when all others have failed", out))
	}
	if e.failing = e.allFail(set.Endpoints); e.failing {
		evidence = append(evidence, "to each of them the last connection has failed (WHY): try usher probe --all-endpoints")
	}
	if set.Terminating {
		evidence = append(evidence, "all of them are terminating: no ready one is left")
	}
	if len(evidence) > 0 {
		e.step("endpoints", admin.StepNote, text, evidence...)
	} else {
		e.step("endpoints", admin.StepOK, text)
	}
}

// allFail says whether nobody could connect to any of them of late.
func (e *explainer) allFail(list []balancer.Endpoint) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(o balancer.Endpoint) bool { return e.health[o.Addr].Failures == 0 })
}

func (e *explainer) explainBalancer() {
	if i := slices.IndexFunc(e.port.eligible(e.set).Endpoints, func(o balancer.Endpoint) bool { return o.Addr == e.bound }); i >= 0 {
		e.order = e.port.eligible(e.set).Endpoints[i : i+1]
		e.step("balancer", admin.StepOK, fmt.Sprintf("%s is not asked: session affinity has decided", e.port.Settings.Balancer))
		e.explainSeenAs(e.order[0])
		return
	}
	picker := *e.pickers.of(e.set)
	foresight, _ := picker.(balancer.Foresight)
	if foresight != nil {
		e.order = foresight.Foresee(balancer.Request{Client: e.client})
	}
	name := e.port.Settings.Balancer
	if len(e.order) == 0 {
		e.step("balancer", admin.StepOK, fmt.Sprintf("%s decides when the connection comes: which one cannot be told before", name))
		e.explainSeenAs(e.port.eligible(e.set).Endpoints[0])
		return
	}
	e.step("balancer", admin.StepOK, fmt.Sprintf("%s would take %s, if no other connection comes first", name, nameOf(e.order[0])))
	e.explainSeenAs(e.order[0])
}

// nameOf is an endpoint by its pod, if that is known, and its address.
func nameOf(e balancer.Endpoint) string {
	if e.Pod == "" {
		return e.Addr.String()
	}
	return fmt.Sprintf("%s (pod %s)", e.Addr, e.Pod)
}

// sourceReasons say why an endpoint sees the node (Record.SourceWhy); others are words of
// package transparent.
var sourceReasons = map[string]string{
	"not_promised": "Kubernetes promises the client's address by ClusterIPs and with externalTrafficPolicy: Local only",
	"off":          "that is off, or impossible here (--return-mark, and the capture by iptables)",
}

// explainSeenAs tells whose address an endpoint sees.
func (e *explainer) explainSeenAs(of balancer.Endpoint) {
	if e.Client == "" {
		e.step("seen-as", admin.StepOK, "the endpoint sees an address of this node: the client is on it")
		return
	}
	from, why := e.source.from(e.client, of, e.frontend.promisesSource(), e.clients.Load())
	if from.IsValid() {
		e.step("seen-as", admin.StepOK, fmt.Sprintf("the endpoint %s sees the client's own address", of.Addr))
		return
	}
	reason, known := sourceReasons[why]
	if !known {
		reason = fmt.Sprintf("its replies to the client would not come back through this node (%s)", why)
	}
	evidence := []string{}
	if version := e.port.Settings.ProxyProtocol; version > 0 {
		evidence = append(evidence, fmt.Sprintf("a PROXY protocol header of version %d tells it the client", version))
	}
	e.step("seen-as", admin.StepNote, fmt.Sprintf("the endpoint %s sees an address of this node instead of the client's: %s", of.Addr, reason), evidence...)
}

// candidates are all endpoints, as this client finds them.
func (e *explainer) candidates() {
	foresight, _ := (*e.pickers.of(e.set)).(balancer.Foresight)
	for _, s := range e.status().Endpoints {
		c := admin.Candidate{EndpointStatus: s}
		addr, err := netip.ParseAddrPort(s.Address)
		if err == nil && s.State == admin.In {
			c.Order = 1 + slices.IndexFunc(e.order, func(o balancer.Endpoint) bool { return o.Addr == addr })
			if foresight != nil {
				c.Share = foresight.Share(addr)
			}
		}
		e.Candidates = append(e.Candidates, c)
	}
}

// serves is the verdict where nothing ends the way.
func (e *explainer) serves() string {
	in := 0
	for _, c := range e.Candidates {
		if c.State == admin.In {
			in++
		}
	}
	endpoints := fmt.Sprintf("by one of %d endpoints", in)
	if in == 1 {
		endpoints = "by the one endpoint that is usable"
	}
	what := "A connection"
	if e.key.Protocol == udpProtocol {
		what = "A datagram"
	}
	if e.bound.IsValid() && len(e.order) > 0 {
		return fmt.Sprintf("%s from %s to %s would be served by %s, to which session affinity binds the client.", what, e.who(), e.vip, nameOf(e.order[0]))
	}
	say := fmt.Sprintf("%s from %s to %s would be served %s", what, e.who(), e.vip, endpoints)
	if len(e.order) > 0 && in > 1 {
		say += ", next by " + nameOf(e.order[0])
	}
	if e.failing {
		say += "; but to none of them could be connected of late"
	}
	return say + "."
}
