package load

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// The endpoint that is drained, that is silent, and that was ill.
const drained, silent, wasIll = 2, 0, 1

// beginCorners has those talk who wait or have to stay with their endpoint, and sees to it that
// there are endpoints that nobody may get.
func (l *Load) beginCorners() {
	s := l.site
	s.t.Helper()
	s.Write("corners.yaml", l.sticky, l.narrow, l.slow, l.ill)
	for _, pod := range s.Pods {
		serve(s.t, pod, l.sticky.Port, answer(pod))
		serve(s.t, pod, l.slow.Port, answer(pod))
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		s.Pods[silent].Run(program, "-A", "INPUT", "-p", "tcp", "--dport", fmt.Sprint(l.slow.Port), "-j", "DROP")
	}
	l.fallIll()
	for _, address := range []netip.AddrPort{s.Pods[drained].AddrPort4(l.Web.Port), s.Pods[drained].AddrPort6(l.Web.Port)} {
		s.Ask(0, "drain", "endpoint", address.String())
	}
	l.Web.shuns = s.Pods[drained]
	var unwatched longest // an endpoint that is silent delays
	l.requests(l.ill, 10, &unwatched)
	l.requests(l.slow, 5, &unwatched)
	l.sticksTo(l.sticky, 200*time.Millisecond)
	l.waits(l.narrow, 10, 3, 100*time.Millisecond)
}

// fallIll has one endpoint refuse until it is left out; then it serves again.
func (l *Load) fallIll() {
	s := l.site
	s.t.Helper()
	for i, pod := range s.Pods {
		if i != wasIll {
			serve(s.t, pod, l.ill.Port, answer(pod))
		}
	}
	netns.Eventually(s.t, "an endpoint that refuses is left out", func() error {
		for _, six := range []bool{false, true} {
			if _, err := request(l.client(0), l.ill, six, "hello"); err != nil {
				return err
			}
		}
		return l.isOut()
	})
	l.ill.shuns = s.Pods[wasIll]
	serve(s.t, s.Pods[wasIll], l.ill.Port, answer(s.Pods[wasIll]))
}

// isOut says whether the one is left out of both families.
func (l *Load) isOut() error {
	var ports []struct {
		Endpoints []struct{ Address, State, Why string }
	}
	l.site.AskJSON(&ports, "get", "endpoints", l.ill.Name)
	out := 0
	for _, p := range ports {
		for _, e := range p.Endpoints {
			at := netip.MustParseAddrPort(e.Address).Addr()
			if ill := l.site.Pods[wasIll]; (at == ill.IPv4 || at == ill.IPv6) && e.State == "out" {
				out++
			}
		}
	}
	if out != 2 {
		return errors.New("it is in")
	}
	return nil
}

// cornersAreAsTheyWere wants what was drained and left out to be so still.
func (l *Load) cornersAreAsTheyWere() {
	s := l.site
	s.t.Helper()
	if err := l.isOut(); err != nil {
		s.t.Errorf("%s: %v", s.Pods[wasIll].Name, err)
	}
	out, _ := s.Ask(0, "get", "endpoints", l.Web.Name, "--output=wide")
	if n := strings.Count(out, "drained"); n < 2 {
		s.t.Errorf("%s is drained in %d families:\n%s", s.Pods[drained].Name, n, out)
	}
}
