package annotation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// check returns what is out of bounds.
func check(s Settings) error {
	between := func(d, least, most time.Duration) bool { return d >= least && d <= most }
	limited := func(n int) bool { return n >= 0 && n <= maxNumber }
	k, u := s.Relay.Peer.KeepAlive, s.Relay.Peer.UserTimeout
	r, l, p, c := s.Retry, s.Limits, s.Outlier.Passive, s.Outlier.Check
	for what, holds := range map[string]bool{
		"balancer":  s.Balancer != "",
		"slowStart": s.SlowStart == 0 || between(s.SlowStart, time.Second, time.Hour),
		"attempts":  r.Attempts >= 1 && r.Attempts <= 9,
		"timeout":   between(r.Timeout, 50*time.Millisecond, time.Minute) && r.Timeout <= r.Total,
		"total":     between(r.Total, 50*time.Millisecond, 10*time.Minute),
		"on":        r.On > 0 && r.On < 16,
		"hedge":     r.Hedge == 0 || between(r.Hedge, 5*time.Millisecond, 10*time.Second),
		"budget":    r.Budget.Share >= 0 && r.Budget.Share <= 10 && r.Budget.PerSecond >= 0 && r.Budget.PerSecond <= maxNumber,
		"halfClose": between(s.Relay.HalfClose, time.Second, 24*time.Hour),
		"idle":      s.Relay.Idle == 0 || between(s.Relay.Idle, time.Second, 24*time.Hour),
		"duration":  s.Relay.Duration == 0 || between(s.Relay.Duration, time.Second, 720*time.Hour),
		"keepAlive": k == tcp.KeepAlive{} || between(k.Idle, time.Second, 2*time.Hour) && between(k.Interval, time.Second, 2*time.Hour) && (k.Idle+k.Interval)%time.Second == 0 && k.Count >= 1 && k.Count <= 100,
		"user":      u == 0 || between(u, time.Second, time.Hour),
		"limits":    limited(l.Connections) && limited(l.PerEndpoint) && limited(l.PerClient),
		"rate":      l.Rate.PerSecond == 0 || l.Rate.PerSecond >= 0.1 && l.Rate.PerSecond <= maxNumber && l.Rate.Burst >= 1 && limited(l.Rate.Burst),
		"wait":      between(l.Wait, 0, 30*time.Second),
		"passive":   p.Failures >= 0 && p.Failures <= 100 && p.Base >= time.Second && p.Base <= p.Max && p.Max <= 24*time.Hour && p.MaxEjected > 0 && p.MaxEjected <= 1,
		"interval":  between(c.Interval, time.Second, 10*time.Minute),
		"check":     c.Timeout >= 10*time.Millisecond && c.Timeout < c.Interval && c.Rise >= 1 && c.Rise <= 10 && c.Fall >= 1 && c.Fall <= 10,
		"kind":      kindIsWhole(c),
		"drain":     s.Drain.Timeout == -1 || between(s.Drain.Timeout, 0, time.Hour),
		"unready":   s.Drain.Unready == UnreadyKeep || s.Drain.Unready == UnreadyDrain || s.Drain.Unready == UnreadyReset,
		"proxy":     s.ProxyProtocol <= 2 && s.Outlier.ProxyProtocol == s.ProxyProtocol,
		"udp":       between(s.UDP.Idle, time.Second, time.Hour) && between(s.UDP.Stream, time.Second, 24*time.Hour) && s.UDP.Sessions >= 1 && limited(s.UDP.Sessions),
	} {
		if !holds {
			return fmt.Errorf("%s is out of bounds: %+v", what, s)
		}
	}
	return nil
}

// kindIsWhole says whether a check has what its kind needs, and nothing else.
func kindIsWhole(c outlier.Check) bool {
	path, send, expect := c.Path != "", len(c.Send) > 0, len(c.Expect) > 0
	switch c.Kind {
	case outlier.CheckOff:
		return !path && !send && !expect && c.Port == 0
	case outlier.CheckTCP:
		return !path && (expect || !send)
	case outlier.CheckHTTP:
		return c.Path[0] == '/' && !strings.ContainsAny(c.Path, " \r\n") && !send && !expect
	case outlier.CheckUDP:
		return !path && send
	}
	return false
}

// Whatever a Service says, it is served within bounds, and the log stays short.
func FuzzParse(f *testing.F) {
	for _, m := range meanings {
		f.Add(m.name, m.value, "retries", "3")
	}
	f.Add("weights", "zone=a:1,address=[fd00::1]:2", "connect-timeout", "1m")
	f.Add("health-timeout", "1m", "health-interval", "1s")
	f.Add("\x00", "\xff\n", "", strings.Repeat("x", 1000))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		said := map[string]string{Prefix + name1: value1, Prefix + name2: value2}
		s, faults := Parse(said, Defaults(), policies)
		if err := check(s); err != nil {
			t.Error(err)
		}
		if w := s.Weights.Of(balancer.Endpoint{Zone: "a"}); w < 1 || w > maxWeight {
			t.Errorf("weight %d", w)
		}
		if len(faults) > len(said) {
			t.Errorf("%d faults of %d annotations: %v", len(faults), len(said), faults)
		}
		for _, fault := range faults {
			if len(fault.Why) > 1023 || strings.ContainsFunc(fault.Why, func(r rune) bool { return r < ' ' }) {
				t.Errorf("message %q", fault.Why)
			}
		}
	})
}
