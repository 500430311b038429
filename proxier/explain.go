package proxier

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/admin"
)

// question is what somebody wants to have explained. What is empty or zero was left open.
type question struct {
	serviceName
	port     string // name or number
	protocol string
	family   Family
	client   netip.Addr
	vip      netip.AddrPort // port 0: any
}

var explainParameters = []string{"namespace", "service", "port", "protocol", "family", "from", "vip"}

func badRequest(format string, args ...any) error {
	return &admin.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &admin.Error{Status: http.StatusNotFound, Message: fmt.Sprintf(format, args...)}
}

func questionOf(q url.Values) (asked question, err error) {
	if asked.serviceName, err = serviceIn(q); err != nil {
		return asked, err
	}
	asked.namespace = cmp.Or(asked.namespace, "default")
	if asked.name == "" {
		return asked, badRequest("service: want NAME or NAMESPACE/NAME")
	}
	asked.port, asked.protocol = q.Get("port"), q.Get("protocol")
	if p := asked.protocol; p != "" && p != tcpProtocol && p != udpProtocol {
		return asked, badRequest("protocol=%q: want tcp or udp", p)
	}
	switch f := q.Get("family"); f {
	case "":
	case "IPv4", "4":
		asked.family = IPv4
	case "IPv6", "6":
		asked.family = IPv6
	default:
		return asked, badRequest("family=%q: want IPv4 or IPv6", f)
	}
	if text := q.Get("from"); text != "" {
		if asked.client, err = netip.ParseAddr(text); err != nil {
			return asked, badRequest("from=%q: want an IP address", text)
		}
		asked.client = asked.client.Unmap().WithZone("")
		if asked.client.IsUnspecified() || asked.client.IsMulticast() {
			return asked, badRequest("from=%q: no client has that address", text)
		}
	}
	if text := q.Get("vip"); text != "" {
		if asked.vip, err = netip.ParseAddrPort(text); err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return asked, badRequest("vip=%q: want an IP address, or IP:port", text)
			}
			asked.vip = netip.AddrPortFrom(addr, 0)
		}
		asked.vip = netip.AddrPortFrom(asked.vip.Addr().Unmap(), asked.vip.Port())
	}
	for _, a := range []netip.Addr{asked.client, asked.vip.Addr()} {
		switch {
		case !a.IsValid():
		case asked.family == 0:
			asked.family = familyOf(a)
		case asked.family != familyOf(a):
			return asked, badRequest("%s is no address of %s: client, address and family must be of one", a, asked.family)
		}
	}
	return asked, nil
}

// showExplanation explains between two passes: only then all fits together.
func (p *Proxier) showExplanation(q url.Values) (any, error) {
	asked, err := questionOf(q)
	if err != nil {
		return nil, err
	}
	var x *admin.Explanation
	err = p.inLoop(context.Background(), func(ctx context.Context) (err error) {
		x, err = p.explain(ctx, asked)
		return err
	})
	return x, err
}

// explain belongs to the reconcile loop.
func (p *Proxier) explain(ctx context.Context, asked question) (*admin.Explanation, error) {
	seen := p.seen.Load()
	if seen == nil || seen.early {
		return nil, &admin.Error{Status: http.StatusServiceUnavailable, Message: "usher has just begun and serves nothing yet; try again"}
	}
	port, err := p.portAsked(seen, asked)
	if err != nil {
		return nil, err
	}
	e := &explainer{
		portView: newPortView(seen.desired, port), ctx: ctx, node: p.lastNode,
		Explanation: admin.Explanation{
			Namespace: port.key.Namespace, Service: port.key.Name, PortName: port.key.Port,
			Protocol: port.key.Protocol, Family: port.key.Family.String(), Steps: []admin.Step{}, Candidates: []admin.Candidate{},
		},
	}
	if e.vip, err = e.address(asked.vip); err != nil {
		return nil, err
	}
	e.identify(asked.client)
	e.explain()
	return &e.Explanation, nil
}

// portAsked finds the one that is asked for, or says why there is none.
func (p *Proxier) portAsked(seen *seen, asked question) (found seenPort, err error) {
	var all []seenPort
	for _, s := range seen.ports() {
		if s.key.Namespace == asked.namespace && s.key.Name == asked.name {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return found, p.notServed(seen, asked.serviceName)
	}
	some := slices.DeleteFunc(slices.Clone(all), func(s seenPort) bool { return !asked.fits(s) })
	if len(some) == 0 {
		return found, notFound("Service %s/%s has no such port on this node, only: %s", asked.namespace, asked.name, portsOf(all))
	}
	first := some[0] // IPv4 sorts before IPv6
	for _, s := range some {
		if asked.port != "" && asked.protocol == "" && first.key.Protocol == udpProtocol && s.key.Protocol == tcpProtocol {
			first = s // two that share a number: TCP unless said otherwise
		}
	}
	for _, s := range some {
		if s.key.ServicePort != first.key.ServicePort && (asked.port == "" || s.key.Protocol == first.key.Protocol) {
			return found, badRequest("Service %s/%s has several ports, name one of: %s", asked.namespace, asked.name, portsOf(some))
		}
	}
	return first, nil
}

func (q *question) fits(s seenPort) bool {
	number, err := strconv.ParseUint(q.port, 10, 16)
	return (q.port == "" || q.port == s.key.Port || err == nil && uint16(number) == s.port.number()) &&
		(q.protocol == "" || q.protocol == s.key.Protocol) && (q.family == 0 || q.family == s.key.Family)
}

// portsOf names ports, as in http (80/tcp, IPv4).
func portsOf(list []seenPort) string {
	var names []string
	for _, s := range list {
		name := fmt.Sprintf("%d/%s, %s", s.port.number(), s.key.Protocol, s.key.Family)
		if s.key.Port != "" {
			name = fmt.Sprintf("%s (%s)", s.key.Port, name)
		}
		names = append(names, name)
	}
	return strings.Join(names, "; ")
}

// maxNear is how many Services of the same name are told.
const maxNear = 5

// notServed says why a Service is not, as far as that is known.
func (p *Proxier) notServed(seen *seen, name serviceName) error {
	objects, _ := p.cfg.Source.Objects()
	var near, problems []string
	for _, s := range objects.Services {
		switch {
		case s.Name != name.name:
		case s.Namespace == name.namespace:
			if why := dnsAlone(s); why != "" {
				return notFound("Service %s/%s is not served: %s", name.namespace, name.name, why)
			}
		default:
			near = append(near, s.Namespace)
		}
	}
	for _, problem := range seen.problems {
		if problem.About == serviceRef(name.namespace, name.name) {
			problems = append(problems, problem.Message)
		}
	}
	if len(problems) > 0 {
		return notFound("Service %s/%s is not served: %s", name.namespace, name.name, strings.Join(problems, "; "))
	}
	slices.Sort(near)
	say := fmt.Sprintf("usher serves no Service %s/%s on this node", name.namespace, name.name)
	switch {
	case len(near) > maxNear:
		say += fmt.Sprintf("; there is one of that name in the namespaces %s and %d more", strings.Join(near[:maxNear], ", "), len(near)-maxNear)
	case len(near) > 0:
		say += "; there is one of that name in the namespace " + strings.Join(near, ", ")
	}
	return notFound("%s; if it exists it may be headless, of type ExternalName, or labelled service.kubernetes.io/service-proxy-name for another proxy: those usher does not look at", say)
}

// dnsAlone says why nobody proxies a Service (plan.isServed), empty if somebody does.
func dnsAlone(s *corev1.Service) string {
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return fmt.Sprintf("it is of type ExternalName: DNS alone answers for it, with %s", s.Spec.ExternalName)
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		return "it is headless (clusterIP: None): DNS gives clients the addresses of its endpoints themselves"
	case s.Spec.ClusterIP == "":
		return "it has no ClusterIP yet"
	}
	return ""
}
