package handover

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

var upgrades = flag.Int("upgrades", 2, "how often usher is upgraded under load")

// Two upgrades in a row, or as many as -upgrades says. Whoever talks through usher meanwhile
// sees nothing of them.
func TestUpgradeUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name, capture string
		carrier       carrier
	}{
		{"exec/iptables", "iptables", byCommand{}},
		{"exec/bind", "bind", byHangup{}},
	} {
		t.Run(c.name, func(t *testing.T) { underLoad(t, c.carrier, "--capture="+c.capture) })
	}
}

func underLoad(t *testing.T, by carrier, flags ...string) {
	s := newSite(t)
	l := newLoad(s)
	services := newServices(s)
	s.start(append(by.flags(s), flags...)...)
	streams, statements := services.begin(l)
	held := s.held(l, streams, statements)
	for n := range *upgrades {
		l.pause(500 * time.Millisecond) // of the load as it is without
		before := l.take()
		s.usher = by.upgrade(s, s.usher)
		l.pause(500 * time.Millisecond)
		t.Logf("upgrade %d: %v; before: %v; usher: %s", n+1, l.take(), before, lastPause(s.usher))
	}
	if got := s.status().Upgrades; got != *upgrades {
		t.Errorf("usher has counted %d upgrades, want %d", got, *upgrades)
	}
	services.areAsTheyWere(s)
	l.end()
	l.tell()
	held.areTold(s)
	t.Logf("%d requests, %d datagrams, %d streams with %s", l.answered.Load(), l.replied.Load(), len(streams), total(streams))
	for line := range strings.Lines(s.usher.Log()) {
		if strings.Contains(line, `"level":"error"`) {
			t.Error(line)
		}
	}
	if code := s.usher.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.leavesNothing()
}

// take is what was seen since it was called last.
func (l *load) take() string {
	unanswered := l.asked.Load() - l.replied.Load()
	return fmt.Sprintf("streams paused for %v, a new connection took %v, %d datagrams on their way",
		l.gap.take().Round(time.Millisecond), l.delay.take().Round(time.Millisecond), unanswered)
}

// lastPause is what usher says of the newest upgrade.
func lastPause(u *usher.Process) (pause string) {
	for line := range strings.Lines(u.Log()) {
		var told struct {
			Msg         string
			Pause       *float64 `json:"pause_ms"`
			AcceptPause float64  `json:"accepting_after_ms"`
		}
		if json.Unmarshal([]byte(line), &told) == nil && told.Pause != nil {
			pause = fmt.Sprintf("%.0f ms, until it accepted again %.0f ms", *told.Pause, told.AcceptPause)
		}
	}
	return pause
}

func total(all []*stream) string {
	var sum int64
	for _, s := range all {
		sum += s.up.received.bytes + s.down.received.bytes
	}
	return fmt.Sprintf("%d MB", sum>>20)
}

// services are those that the load is for.
type services struct {
	bulk, web, database, sticky, narrow, slow, ill, names *service
}

func newServices(s *site) *services {
	all := s.pods
	v := &services{
		bulk:     &service{Name: "bulk", N: 1, Port: 7001, Pods: all},
		web:      &service{Name: "web", N: 2, Port: 7002, Pods: all},
		database: &service{Name: "database", N: 3, Port: 7003, Pods: all},
		sticky:   &service{Name: "sticky", N: 4, Port: 7004, Pods: all, Sticky: true},
		narrow:   &service{Name: "narrow", N: 5, Port: 7005, Pods: all, Asks: map[string]string{"max-connections": "3", "on-limit": "wait:25s"}},
		// The first does not answer.
		slow: &service{Name: "slow", N: 6, Port: 7006, Pods: all[:2], Asks: map[string]string{
			"balancer": "first", "connect-timeout": "1s", "passive-health": "off", "retry-budget": "1000%,100/s",
		}},
		ill:   &service{Name: "ill", N: 7, Port: 7007, Pods: all, Asks: map[string]string{"passive-health": "consecutive-failures=1,base=1h,max=2h"}},
		names: &service{Name: "names", N: 8, Protocol: "UDP", Port: 7008, Pods: all},
	}
	for _, one := range []*service{v.bulk, v.web, v.database, v.sticky, v.narrow, v.slow, v.ill} {
		one.Protocol = "TCP"
	}
	s.write("services.yaml", v.bulk, v.web, v.database, v.sticky, v.narrow, v.slow, v.ill, v.names)
	return v
}

// The endpoint that is drained, that is silent, and that was ill.
const drained, silent, wasIll = 2, 0, 1

// begin has everybody talk.
func (v *services) begin(l *load) ([]*stream, []*statement) {
	s := l.site
	s.t.Helper()
	for _, pod := range s.pods {
		serve(s.t, pod, v.web.Port, answer(pod))
		serve(s.t, pod, v.sticky.Port, answer(pod))
		serve(s.t, pod, v.slow.Port, answer(pod))
		serve(s.t, pod, v.database.Port, databaseServer)
	}
	s.pods[silent].Run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", fmt.Sprint(v.slow.Port), "-j", "DROP")
	s.pods[silent].Run("ip6tables", "-A", "INPUT", "-p", "tcp", "--dport", fmt.Sprint(v.slow.Port), "-j", "DROP")
	streams := l.streams(v.bulk, 50, 20)
	for _, client := range s.clients {
		s.awaitAnswer(client, v.web)
	}
	for _, address := range []string{s.pods[drained].AddrPort4(v.web.Port).String(), s.pods[drained].AddrPort6(v.web.Port).String()} {
		s.ask(0, "drain", "endpoint", address)
	}
	v.fallIll(l)
	l.begin(v.bulk, streams)
	statements := l.statements(v.database, 100, time.Second)
	notDrained := l.not(v.web, s.pods[drained])
	l.requests(v.web, 200, func(n int, who string, took time.Duration) {
		l.delay.note(took)
		notDrained(n, who, took)
	})
	l.requests(v.ill, 10, l.not(v.ill, s.pods[wasIll]))
	l.requests(v.slow, 5, l.not(v.slow, s.pods[silent]))
	l.sticky(v.sticky, 200*time.Millisecond)
	l.waits(v.narrow, 10, 3, 100*time.Millisecond)
	l.datagrams(v.names, 40, 20*time.Millisecond)
	return streams, statements
}

// fallIll has one endpoint refuse until it is left out; then it serves again.
func (v *services) fallIll(l *load) {
	s := l.site
	s.t.Helper()
	for i, pod := range s.pods {
		if i != wasIll {
			serve(s.t, pod, v.ill.Port, answer(pod))
		}
	}
	netns.Eventually(s.t, "an endpoint that refuses is left out", func() error {
		for _, six := range []bool{false, true} {
			if _, err := request(l.client(0), v.ill, six, "hello"); err != nil {
				return err
			}
		}
		return v.isOut(s)
	})
	serve(s.t, s.pods[wasIll], v.ill.Port, answer(s.pods[wasIll]))
}

// isOut says whether the one is left out of both families.
func (v *services) isOut(s *site) error {
	var ports []struct {
		Endpoints []struct{ Address, State, Why string }
	}
	s.askJSON(&ports, "get", "endpoints", v.ill.Name)
	out := 0
	for _, p := range ports {
		for _, e := range p.Endpoints {
			at := netip.MustParseAddrPort(e.Address).Addr()
			if (at == s.pods[wasIll].IPv4 || at == s.pods[wasIll].IPv6) && e.State == "out" {
				out++
			}
		}
	}
	if out != 2 {
		return errors.New("it is in")
	}
	return nil
}

// areAsTheyWere wants what was drained and left out to be so still.
func (v *services) areAsTheyWere(s *site) {
	s.t.Helper()
	if err := v.isOut(s); err != nil {
		s.t.Errorf("%s: %v", s.pods[wasIll].Name, err)
	}
	out, _ := s.ask(0, "get", "endpoints", v.web.Name, "--output=wide")
	if n := strings.Count(out, "drained"); n < 2 {
		s.t.Errorf("%s is drained in %d families:\n%s", s.pods[drained].Name, n, out)
	}
}

// held are connections that live through all upgrades, as usher had them before the first.
type held []*heldConnection

type heldConnection struct {
	ID      string
	Client  string
	Service string
	Started time.Time
	in, out func() int64 // bytes, once they have ended
}

// held asks usher for the connections of streams and statements.
func (s *site) held(l *load, streams []*stream, statements []*statement) (all held) {
	s.t.Helper()
	var list []*heldConnection
	s.askJSON(&list, "get", "connections")
	byClient := map[string]*heldConnection{}
	for _, one := range list {
		byClient[one.Client] = one
	}
	find := func(client string, in, out func() int64) {
		one := byClient[client]
		if one == nil {
			s.t.Fatalf("usher does not have the connection of %s", client)
		}
		one.in, one.out = in, out
		all = append(all, one)
	}
	for _, of := range streams {
		first := int64(len(fmt.Sprintln(of.number)))
		find(of.client.LocalAddr().String(), func() int64 { return first + of.up.sent.bytes }, func() int64 { return of.down.sent.bytes })
	}
	for _, of := range statements {
		find(of.c.LocalAddr().String(), func() int64 { return of.in }, func() int64 { return of.out })
	}
	return all
}

// areTold wants each to have a record that has all of it.
func (all held) areTold(s *site) {
	s.t.Helper()
	byID := map[string]usher.Record{}
	mine := map[string]bool{}
	for _, one := range all {
		mine[one.Client] = true
	}
	for _, r := range s.usher.Records(len(all), func(r usher.Record) bool { return mine[clientOf(r)] }) {
		byID[r.ID] = r
	}
	for _, one := range all {
		r, ok := byID[one.ID]
		lasted := time.Duration(r.DurationMS * float64(time.Millisecond))
		switch {
		case !ok:
			s.t.Errorf("%s: no record has the ID %s", one.Client, one.ID)
		case r.Service != one.Service || clientOf(r) != one.Client:
			s.t.Errorf("%s: its record is %+v", one.Client, r)
		case r.BytesIn != one.in() || r.BytesOut != one.out():
			s.t.Errorf("%s, %s: the record has %d and %d bytes, there were %d and %d", one.Service, one.Client, r.BytesIn, r.BytesOut, one.in(), one.out())
		case lasted < time.Since(one.Started)-30*time.Second || lasted > time.Since(one.Started):
			s.t.Errorf("%s, %s: the record says that it lasted %v, it began %v ago", one.Service, one.Client, lasted, time.Since(one.Started))
		case r.Reason != "ok":
			s.t.Errorf("%s, %s: it has ended by %s", one.Service, one.Client, r.Reason)
		}
	}
}

func clientOf(r usher.Record) string {
	return netip.AddrPortFrom(netip.MustParseAddr(cmp.Or(r.ClientIP, "::")), uint16(r.ClientPort)).String()
}
