package annotation

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// policies are the names that balancer may have in tests.
var policies = []string{"round-robin", "p2c", "mine"}

// parse reads annotations whose names have no prefix.
func parse(said map[string]string) (Settings, []Fault) {
	return Parse(prefixed(said), Defaults(), policies)
}

func prefixed(said map[string]string) map[string]string {
	all := map[string]string{"example.com/other": "x", "usher-proxy.io": "x"} // are nobody's
	for name, value := range said {
		all[Prefix+name] = value
	}
	return all
}

// meanings are annotations, and what each changes of the defaults.
var meanings = []struct {
	name, value string
	change      func(*Settings)
}{
	{"balancer", "p2c", func(s *Settings) { s.Balancer = "p2c" }},
	{"balancer", " mine ", func(s *Settings) { s.Balancer = "mine" }},
	{"slow-start", "30s", func(s *Settings) { s.SlowStart = 30 * time.Second }},
	{"slow-start", "off", func(*Settings) {}},
	{"retries", "0", func(s *Settings) { s.Retry.Attempts = 1 }},
	{"retries", "8", func(s *Settings) { s.Retry.Attempts = 9 }},
	{"retry-on", "refused", func(s *Settings) { s.Retry.On = dial.Refused }},
	{"retry-on", "reset-early, timeout,unreachable", func(s *Settings) { s.Retry.On = dial.ResetEarly | dial.Timeout | dial.Unreachable }},
	{"connect-timeout", "50ms", func(s *Settings) { s.Retry.Timeout = 50 * time.Millisecond }},
	{"total-connect-timeout", "10m", func(s *Settings) { s.Retry.Total = 10 * time.Minute }},
	{"total-connect-timeout", "1s", func(s *Settings) { s.Retry.Timeout, s.Retry.Total = time.Second, time.Second }},
	{"retry-budget", "50%,1/s", func(s *Settings) { s.Retry.Budget = dial.Budget{Share: 0.5, PerSecond: 1} }},
	{"retry-budget", "0.5/s , 1000%", func(s *Settings) { s.Retry.Budget = dial.Budget{Share: 10, PerSecond: 0.5} }},
	{"retry-budget", "12.5%", func(s *Settings) { s.Retry.Budget = dial.Budget{Share: 0.125} }},
	{"retry-budget", "3/s", func(s *Settings) { s.Retry.Budget = dial.Budget{PerSecond: 3} }},
	{"retry-budget", "0%", func(s *Settings) { s.Retry.Budget = dial.Budget{} }},
	{"hedge", "5ms", func(s *Settings) { s.Retry.Hedge = 5 * time.Millisecond }},
	{"half-close-timeout", "24h", func(s *Settings) { s.Relay.HalfClose = 24 * time.Hour }},
	{"idle-timeout", "1s", func(s *Settings) { s.Relay.Idle = time.Second }},
	{"idle-timeout", "off", func(*Settings) {}},
	{"max-connection-duration", "720h", func(s *Settings) { s.Relay.Duration = 720 * time.Hour }},
	{"tcp-keepalive", "off", func(s *Settings) { s.Relay.Peer.KeepAlive = tcp.KeepAlive{} }},
	{"tcp-keepalive", "1m", func(s *Settings) {
		s.Relay.Peer.KeepAlive = tcp.KeepAlive{Idle: time.Minute, Interval: 15 * time.Second, Count: 4}
	}},
	{"tcp-keepalive", "2h, 1s", func(s *Settings) {
		s.Relay.Peer.KeepAlive = tcp.KeepAlive{Idle: 2 * time.Hour, Interval: time.Second, Count: 4}
	}},
	{"tcp-keepalive", "10s,5s, 100", func(s *Settings) {
		s.Relay.Peer.KeepAlive = tcp.KeepAlive{Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 100}
	}},
	{"tcp-user-timeout", "90s", func(s *Settings) { s.Relay.Peer.UserTimeout = 90 * time.Second }},
	{"tcp-user-timeout", "off", func(*Settings) {}},
	{"max-connections", "1000000", func(s *Settings) { s.Limits.Connections = 1_000_000 }},
	{"max-connections-per-endpoint", "1", func(s *Settings) { s.Limits.PerEndpoint = 1 }},
	{"max-connections-per-client", "7", func(s *Settings) { s.Limits.PerClient = 7 }},
	{"connection-rate", "100/s", func(s *Settings) { s.Limits.Rate = limit.Rate{PerSecond: 100, Burst: 100} }},
	{"connection-rate", "0.1/s", func(s *Settings) { s.Limits.Rate = limit.Rate{PerSecond: 0.1, Burst: 1} }},
	{"connection-rate", "10/s, 50", func(s *Settings) { s.Limits.Rate = limit.Rate{PerSecond: 10, Burst: 50} }},
	{"on-limit", "wait:2s", func(s *Settings) { s.Limits.Wait = 2 * time.Second }},
	{"on-limit", "reset", func(*Settings) {}},
	{"health-interval", "10m", func(s *Settings) { s.Outlier.Check.Interval = 10 * time.Minute }},
	{"health-interval", "1s", func(s *Settings) {
		s.Outlier.Check.Interval, s.Outlier.Check.Timeout = time.Second, time.Second/2
	}},
	{"health-timeout", "9999ms", func(s *Settings) { s.Outlier.Check.Timeout = 9999 * time.Millisecond }},
	{"health-rise", "10", func(s *Settings) { s.Outlier.Check.Rise = 10 }},
	{"health-fall", "1", func(s *Settings) { s.Outlier.Check.Fall = 1 }},
	{"passive-health", "off", func(s *Settings) { s.Outlier.Passive.Failures = 0 }},
	{"passive-health", "on", func(*Settings) {}},
	{"passive-health", "max-ejected = 30%", func(s *Settings) { s.Outlier.Passive.MaxEjected = 0.3 }},
	{"passive-health", "consecutive-failures=1,base=1s,max=1s,max-ejected=100%", func(s *Settings) {
		s.Outlier.Passive = outlier.Passive{Failures: 1, Base: time.Second, Max: time.Second, MaxEjected: 1}
	}},
	{"passive-health", "base=10m", func(s *Settings) { s.Outlier.Passive.Base, s.Outlier.Passive.Max = 10*time.Minute, 10*time.Minute }},
	{"drain-timeout", "off", func(*Settings) {}},
	{"drain-timeout", "0", func(s *Settings) { s.Drain.Timeout = 0 }},
	{"drain-timeout", "1h", func(s *Settings) { s.Drain.Timeout = time.Hour }},
	{"on-endpoint-unready", "drain", func(s *Settings) { s.Drain.Unready = UnreadyDrain }},
	{"on-endpoint-unready", "reset", func(s *Settings) { s.Drain.Unready = UnreadyReset }},
	{"proxy-protocol", "v1", func(s *Settings) { s.ProxyProtocol, s.Outlier.ProxyProtocol = 1, 1 }},
	{"proxy-protocol", "v2", func(s *Settings) { s.ProxyProtocol, s.Outlier.ProxyProtocol = 2, 2 }},
	{"proxy-protocol", "off", func(*Settings) {}},
	{"udp-idle-timeout", "1s", func(s *Settings) { s.UDP.Idle = time.Second }},
	{"udp-stream-timeout", "24h", func(s *Settings) { s.UDP.Stream = 24 * time.Hour }},
	{"log", "errors", func(s *Settings) { s.Log = observe.Errors }},
	{"log", "off", func(s *Settings) { s.Log = observe.None }},
	{"log", "all", func(*Settings) {}},
	{"log", "1/100", func(s *Settings) { s.Log = 100 }},
	{"udp-max-sessions", "5", func(s *Settings) { s.UDP.Sessions = 5 }},

	{"health-check", "off", func(*Settings) {}},
	{"health-check", "tcp", func(s *Settings) { s.Outlier.Check.Kind = outlier.CheckTCP }},
	{"health-check", "tcp@9000", func(s *Settings) { s.Outlier.Check.Kind, s.Outlier.Check.Port = outlier.CheckTCP, 9000 }},
	{"health-check", `tcp:send=PING\r\n, expect=+PO\x4eG\,\\`, func(s *Settings) {
		c := &s.Outlier.Check
		c.Kind, c.Send, c.Expect = outlier.CheckTCP, []byte("PING\r\n"), []byte(`+PONG,\`)
	}},
	{"health-check", "tcp@25:expect=220 =", func(s *Settings) {
		c := &s.Outlier.Check
		c.Kind, c.Port, c.Expect = outlier.CheckTCP, 25, []byte("220 =")
	}},
	{"health-check", "http:/ready?a=1,2&b=@x:y", func(s *Settings) {
		s.Outlier.Check.Kind, s.Outlier.Check.Path = outlier.CheckHTTP, "/ready?a=1,2&b=@x:y"
	}},
	{"health-check", "http@8081:/", func(s *Settings) {
		c := &s.Outlier.Check
		c.Kind, c.Port, c.Path = outlier.CheckHTTP, 8081, "/"
	}},
	{"health-check", "udp:00fF", func(s *Settings) { s.Outlier.Check.Kind, s.Outlier.Check.Send = outlier.CheckUDP, []byte{0, 255} }},
	{"health-check", "udp@53:0a, expect=0b0c", func(s *Settings) {
		c := &s.Outlier.Check
		c.Kind, c.Port, c.Send, c.Expect = outlier.CheckUDP, 53, []byte{10}, []byte{11, 12}
	}},
}

func TestWhatAnnotationsMean(t *testing.T) {
	for _, m := range meanings {
		want := Defaults()
		m.change(&want)
		got, faults := parse(map[string]string{m.name: m.value})
		if len(faults) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q: got %+v and faults %v, want %+v", m.name, m.value, got, faults, want)
		}
		if fault := check(got); fault != nil {
			t.Errorf("%s: %q: %v", m.name, m.value, fault)
		}
	}
}

// An annotation that is added has to say above what it means.
func TestEveryAnnotationIsInTheTable(t *testing.T) {
	seen := map[string]bool{"weights": true} // has tests of its own
	for _, m := range meanings {
		seen[m.name] = true
	}
	for _, d := range Docs() {
		if !seen[d.Name] {
			t.Errorf("%s is in no row", d.Name)
		}
	}
}

// What is documented as the default is the default.
func TestDocumentedDefaults(t *testing.T) {
	for _, d := range Docs() {
		if d.Default == "" {
			continue
		}
		s := Defaults()
		if err := s.Set(d.Name, d.Default, policies); err != nil || !reflect.DeepEqual(s, Defaults()) {
			t.Errorf("%s: %q means %+v (%v), the default is %+v", d.Name, d.Default, s, err, Defaults())
		}
	}
	if err := check(Defaults()); err != nil {
		t.Error(err)
	}
}

func TestAnnotationsThatMeanNothing(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"balancer", "magic", "want one of round-robin, p2c, mine"},
		{"weights", "zone=a:0", `"zone=a:0" is none of zone=NAME:WEIGHT, node=NAME:WEIGHT`},
		{"slow-start", "1ms", "want off, or a duration from 1s to 1h"},
		{"retries", "9", "want 0 to 8"},
		{"retries", "-1", "want 0 to 8"},
		{"retries", "3.0", "want 0 to 8"},
		{"retry-on", "refused,", "want a list of refused, unreachable, timeout or reset-early"},
		{"retry-on", "reset", "want a list of refused, unreachable, timeout or reset-early"},
		{"connect-timeout", "2", "want a duration from 50ms to 1m"},
		{"connect-timeout", "61s", "want a duration from 50ms to 1m"},
		{"connect-timeout", "-1s", "want a duration from 50ms to 1m"},
		{"total-connect-timeout", "1h", "want a duration from 50ms to 10m"},
		{"retry-budget", "20", "want P%,N/s with P from 0 to 1000 and N from 0 to 1000000, or one of both"},
		{"retry-budget", "20%,20%", "want P%,N/s"},
		{"retry-budget", "20%,1/s,1/s", "want P%,N/s"},
		{"retry-budget", "1001%", "want P%,N/s"},
		{"retry-budget", "NaN%", "want P%,N/s"},
		{"retry-budget", "1e3/s", "want P%,N/s"},
		{"retry-budget", "0x1/s", "want P%,N/s"},
		{"hedge", "1ms", "want off, or a duration from 5ms to 10s"},
		{"hedge", "0", "want off, or a duration from 5ms to 10s"},
		{"half-close-timeout", "0", "want a duration from 1s to 24h"},
		{"idle-timeout", "0", "want off, or a duration from 1s to 24h"},
		{"idle-timeout", "25h", "want off, or a duration from 1s to 24h"},
		{"max-connection-duration", "999ms", "want off, or a duration from 1s to 720h"},
		{"tcp-keepalive", "on", "want off, or IDLE[,INTERVAL[,COUNT]] with whole seconds from 1s to 2h and COUNT from 1 to 100"},
		{"tcp-keepalive", "0", "want off, or IDLE"},
		{"tcp-keepalive", "3h", "want off, or IDLE"},
		{"tcp-keepalive", "1500ms", "want off, or IDLE"},
		{"tcp-keepalive", "30s,0", "want off, or IDLE"},
		{"tcp-keepalive", "30s,15", "want off, or IDLE"},
		{"tcp-keepalive", "30s,", "want off, or IDLE"},
		{"tcp-keepalive", "30s,15s,0", "want off, or IDLE"},
		{"tcp-keepalive", "30s,15s,101", "want off, or IDLE"},
		{"tcp-keepalive", "30s,15s,4,1", "want off, or IDLE"},
		{"tcp-keepalive", "off,15s", "want off, or IDLE"},
		{"tcp-user-timeout", "500ms", "want off, or a duration from 1s to 1h"},
		{"max-connections", "many", "want 0 to 1000000"},
		{"max-connections-per-endpoint", "-1", "want 0 to 1000000"},
		{"max-connections-per-client", "1000001", "want 0 to 1000000"},
		{"connection-rate", "10", "want off, or N/s or N/s,BURST with N from 0.1 to 1000000 and BURST from 1 to 1000000"},
		{"connection-rate", "0/s", "want off, or N/s"},
		{"connection-rate", "1/s,0", "want off, or N/s"},
		{"connection-rate", "Inf/s", "want off, or N/s"},
		{"on-limit", "wait", "want reset, or wait:DURATION with a duration from 1ms to 30s"},
		{"on-limit", "wait:31s", "want reset, or wait:DURATION"},
		{"health-check", "https:/", "want off, tcp, http:/PATH or udp:HEX"},
		{"health-check", "off@80", "want off, tcp, http:/PATH or udp:HEX"},
		{"health-check", "tcp@0", "want a port from 1 to 65535"},
		{"health-check", "tcp@65536", "want a port from 1 to 65535"},
		{"health-check", "tcp@http", "want a port from 1 to 65535"},
		{"health-check", "tcp:", "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", "tcp:send=a", "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", "tcp:send=,expect=a", "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", "tcp:expect=a,expect=b", "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", `tcp:expect=\q`, "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", `tcp:expect=\x1`, "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", `tcp:expect=a\`, "want tcp:send=TEXT,expect=TEXT"},
		{"health-check", "http", "want http:/PATH"},
		{"health-check", "http:ready", "want http:/PATH"},
		{"health-check", "http://example.com/", "want http:/PATH"},
		{"health-check", "http:/a b", "want http:/PATH"},
		{"health-check", "http:/a#b", "want http:/PATH"},
		{"health-check", "http:/%zz", "want http:/PATH"},
		{"health-check", "http:/ü", "want http:/PATH"},
		{"health-check", "http:/a\r\nHost: b", "want http:/PATH"},
		{"health-check", "udp", "want udp:HEX"},
		{"health-check", "udp:0", "want udp:HEX"},
		{"health-check", "udp:00,01", "want udp:HEX"},
		{"health-check", "udp:00,expect=", "want udp:HEX"},
		{"health-interval", "500ms", "want a duration from 1s to 10m"},
		{"health-timeout", "0", "want a duration from 10ms to 10m"},
		{"health-rise", "0", "want 1 to 10"},
		{"health-fall", "11", "want 1 to 10"},
		{"passive-health", "5", "want off, on, or a list of consecutive-failures=N, base=DURATION, max=DURATION and max-ejected=P%"},
		{"passive-health", "on,base=1s", "want off, on, or a list"},
		{"passive-health", "consecutive-failures=0", "consecutive-failures: want 1 to 100"},
		{"passive-health", "base=soon", "base: want a duration from 1s to 1h"},
		{"passive-health", "max=25h", "max: want a duration from 1s to 24h"},
		{"passive-health", "max=5s", "max: want at least base, which is 10s"},
		{"passive-health", "base=2s,max=1s", "max: want at least base, which is 2s"},
		{"passive-health", "max-ejected=0%", "max-ejected: want a share from 1% to 100%"},
		{"passive-health", "base=1s,base=2s", "base is in it twice"},
		{"drain-timeout", "2h", "want off, or a duration from 0s to 1h"},
		{"drain-timeout", "-1s", "want off, or a duration from 0s to 1h"},
		{"on-endpoint-unready", "close", "want keep, drain or reset"},
		{"proxy-protocol", "v3", "want off, v1 or v2"},
		{"udp-idle-timeout", "61m", "want a duration from 1s to 1h"},
		{"udp-stream-timeout", "soon", "want a duration from 1s to 24h"},
		{"log", "1/0", "want all, errors, off, or 1/N with N from 1 to 1000000"},
		{"log", "1/x", "want all, errors, off, or 1/N"},
		{"log", "2", "want all, errors, off, or 1/N"},
		{"udp-max-sessions", "0", "want 1 to 1000000"},
		{"connect-timeout", "11s", "want at most total-connect-timeout, which is 10s"},
		{"health-timeout", "10s", "want less than health-interval, which is 10s"},
	} {
		got, faults := parse(map[string]string{c.name: c.value})
		if !reflect.DeepEqual(got, Defaults()) {
			t.Errorf("%s: %q has an effect: %+v", c.name, c.value, got)
		}
		want := fmt.Sprintf("annotation usher-proxy.io/%s: %q means nothing, and the default counts: %s", c.name, c.value, c.want)
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Why, want) || faults[0].Key != Prefix+c.name || faults[0].Value != c.value {
			t.Errorf("want one fault like\n  %s\ngot\n  %v", want, faults)
		}
	}
}

// What a Service does not ask for is as the flags say, not as it is built in.
func TestFlagsAreTheDefaults(t *testing.T) {
	flags := Defaults()
	flags.Retry.Attempts, flags.Outlier.Passive.MaxEjected, flags.UDP.Idle = 1, 0.1, time.Minute
	got, faults := Parse(prefixed(map[string]string{"passive-health": "base=1s", "retries": "x", "udp-idle-timeout": " "}), flags, policies)
	want := flags
	want.Outlier.Passive.Base = time.Second
	if !reflect.DeepEqual(got, want) || len(faults) != 1 {
		t.Errorf("got %+v and %v, want %+v", got, faults, want)
	}
}

// A Service may turn on what the flags turn off.
func TestPassiveHealthWhereFlagsSayOff(t *testing.T) {
	flags := Defaults()
	flags.Outlier.Passive = outlier.Passive{}
	for value, want := range map[string]outlier.Passive{
		"on":      Defaults().Outlier.Passive,
		"max=20s": {Failures: 5, Base: 10 * time.Second, Max: 20 * time.Second, MaxEjected: 0.5},
	} {
		if got, _ := Parse(prefixed(map[string]string{"passive-health": value}), flags, policies); got.Outlier.Passive != want {
			t.Errorf("%s: %+v", value, got.Outlier.Passive)
		}
	}
}

// Each key is judged alone: what is wrong with one is no fault of another.
func TestKeysAreJudgedAlone(t *testing.T) {
	got, faults := parse(map[string]string{
		"retries": "nine", "connect-timeout": "1s", "retrys": "1", "max-connections": "10", "hedge": "soon", "zz": "",
	})
	want := Defaults()
	want.Retry.Timeout, want.Limits.Connections = time.Second, 10
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var keys []string
	for _, f := range faults {
		keys = append(keys, strings.TrimPrefix(f.Key, Prefix))
	}
	if !slices.Equal(keys, []string{"hedge", "retries", "retrys", "zz"}) {
		t.Errorf("faults with %q", keys)
	}
}

// Of two keys that contradict each other one is named, and it gives way.
func TestRelations(t *testing.T) {
	for _, c := range []struct {
		said  map[string]string
		gives string // the key that gives way, "" if none does
		is    func(Settings) bool
	}{
		{map[string]string{"connect-timeout": "20s", "total-connect-timeout": "15s"}, "connect-timeout",
			func(s Settings) bool { return s.Retry.Timeout == 2*time.Second && s.Retry.Total == 15*time.Second }},
		{map[string]string{"connect-timeout": "20s", "total-connect-timeout": "1s"}, "connect-timeout",
			func(s Settings) bool { return s.Retry.Timeout == time.Second && s.Retry.Total == time.Second }},
		{map[string]string{"connect-timeout": "15s", "total-connect-timeout": "15s"}, "",
			func(s Settings) bool { return s.Retry.Timeout == 15*time.Second }},
		{map[string]string{"health-interval": "5s", "health-timeout": "5s"}, "health-timeout",
			func(s Settings) bool { return s.Outlier.Check.Timeout == 2*time.Second }},
		{map[string]string{"health-interval": "2s", "health-timeout": "3s"}, "health-timeout",
			func(s Settings) bool { return s.Outlier.Check.Timeout == time.Second }},
		{map[string]string{"health-interval": "2s", "health-timeout": "long"}, "health-timeout", // said once
			func(s Settings) bool { return s.Outlier.Check.Timeout == time.Second }},
		{map[string]string{"retries": "0", "hedge": "50ms"}, "hedge", func(s Settings) bool { return s.Retry.Attempts == 1 }},
		{map[string]string{"retries": "0", "hedge": "off"}, "", func(s Settings) bool { return s.Retry.Attempts == 1 }},
		{map[string]string{"health-interval": "5s", "health-timeout": "4s"}, "",
			func(s Settings) bool { return s.Outlier.Check.Timeout == 4*time.Second }},
	} {
		s, faults := parse(c.said)
		if !c.is(s) {
			t.Errorf("%v: %+v", c.said, s)
		}
		var keys []string
		for _, f := range faults {
			keys = append(keys, f.Key)
		}
		if c.gives == "" && len(keys) > 0 || c.gives != "" && !slices.Equal(keys, []string{Prefix + c.gives}) {
			t.Errorf("%v: faults %v", c.said, faults)
		}
	}
}

func TestUnknownKeys(t *testing.T) {
	for name, want := range map[string]string{
		"retrys":      "do you mean usher-proxy.io/retries?",
		"Balancer":    "do you mean usher-proxy.io/balancer?",
		"max-conns":   "known are balancer, connect-timeout, connection-rate, drain-timeout,",
		"drain":       "known are balancer,",
		"weight":      "do you mean usher-proxy.io/weights?",
		"connecttime": "known are balancer,",
		"":            "known are balancer,",
		"\n\x00":      "known are balancer,",
	} {
		got, faults := parse(map[string]string{name: "1"})
		if !reflect.DeepEqual(got, Defaults()) {
			t.Errorf("%q has an effect", name)
		}
		want := fmt.Sprintf("annotation %q is unknown and has no effect: %s", Prefix+name, want)
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Why, want) {
			t.Errorf("want one fault like\n  %s\ngot\n  %v", want, faults)
		}
	}
}

func TestEmptyValuesAreNone(t *testing.T) {
	for _, d := range Docs() {
		for _, empty := range []string{"", " ", "\t\n"} {
			if got, faults := parse(map[string]string{d.Name: empty}); len(faults) > 0 || !reflect.DeepEqual(got, Defaults()) {
				t.Errorf("%s: %q: %+v, %v", d.Name, empty, got, faults)
			}
		}
	}
}

// Who writes a Service cannot make its messages long or many lines.
func TestMessagesAreShort(t *testing.T) {
	for _, d := range Docs() {
		for _, value := range []string{
			strings.Repeat("x", 100_000), strings.Repeat("1", maxValue+1), strings.Repeat("\x00", maxValue),
			"a\nlevel=error msg=forged", strings.Repeat("ü", 128), "zone=" + strings.Repeat("\xff", 200) + ":1,",
		} {
			got, faults := parse(map[string]string{d.Name: value})
			if len(faults) != 1 || !reflect.DeepEqual(got, Defaults()) {
				t.Errorf("%s: %.20q: %+v, %v", d.Name, value, got, faults)
				continue
			}
			if why := faults[0].Why; len(why) > 1023 || strings.ContainsAny(why, "\n\x00") {
				t.Errorf("%s: a message of %d bytes: %q", d.Name, len(why), why)
			}
			if len(faults[0].Value) > maxShown+len("…") {
				t.Errorf("%s: a value of %d bytes", d.Name, len(faults[0].Value))
			}
		}
	}
	_, faults := parse(map[string]string{strings.Repeat("\x01", 100_000): strings.Repeat("x", 100_000)})
	if len(faults) != 1 || len(faults[0].Why) > 1023 {
		t.Errorf("%.2000v", faults)
	}
}

// A value of 256 bytes is read, one of 257 is not, whatever it says.
func TestLongValues(t *testing.T) {
	pad := func(value string, to int) string { return value + strings.Repeat(" ", to-len(value)) }
	if got, faults := parse(map[string]string{"retries": pad("1", maxValue)}); got.Retry.Attempts != 2 || len(faults) > 0 {
		t.Errorf("%d bytes: %+v, %v", maxValue, got.Retry, faults)
	}
	got, faults := parse(map[string]string{"retries": pad("1", maxValue+1)})
	if got.Retry.Attempts != 4 || len(faults) != 1 || !strings.HasSuffix(faults[0].Why, "want at most 256 bytes") {
		t.Errorf("%d bytes: %+v, %v", maxValue+1, got.Retry, faults)
	}
}

func TestTooManyKeys(t *testing.T) {
	said := map[string]string{"retries": "1", "udp-max-sessions": "5"}
	for i := range maxKeys {
		said[fmt.Sprintf("s%02d", i)] = "x"
	}
	got, faults := parse(said)
	if got.Retry.Attempts != 2 || got.UDP.Sessions != 4096 {
		t.Errorf("read the wrong ones: %+v", got)
	}
	if len(faults) != maxKeys+1 { // s00 to s63 are unknown or not read
		t.Fatalf("%d faults", len(faults))
	}
	for _, key := range []string{"s63", "udp-max-sessions"} {
		want := fmt.Sprintf("annotation %q is not read: a Service may have 64 of usher-proxy.io/,", Prefix+key)
		if !slices.ContainsFunc(faults, func(f Fault) bool { return strings.HasPrefix(f.Why, want) }) {
			t.Errorf("nothing like %s", want)
		}
	}
	if len(entries) > maxKeys {
		t.Errorf("%d annotations, of which a Service may have %d", len(entries), maxKeys)
	}
}

// All nodes say the same, and in the same order.
func TestParseIsDeterministic(t *testing.T) {
	said := map[string]string{}
	for _, d := range Docs() {
		said[d.Name], said[d.Name+"x"] = "?", "?"
	}
	s, faults := parse(said)
	if !slices.IsSortedFunc(faults, func(a, b Fault) int { return strings.Compare(a.Key, b.Key) }) {
		t.Errorf("not sorted: %v", faults)
	}
	for range 20 {
		if again, others := parse(maps.Clone(said)); !reflect.DeepEqual(s, again) || !slices.Equal(faults, others) {
			t.Fatalf("got %v, then %v", faults, others)
		}
	}
}

func TestSet(t *testing.T) {
	s := Defaults()
	for _, c := range []struct{ name, value, want string }{
		{"retry", "1", "there is no annotation usher-proxy.io/retry"},
		{"retries", " ", "want a value"},
		{"retries", "9", "want 0 to 8"},
	} {
		if err := s.Set(c.name, c.value, nil); err == nil || err.Error() != c.want {
			t.Errorf("%s=%s: got %v, want %s", c.name, c.value, err, c.want)
		}
	}
	if !reflect.DeepEqual(s, Defaults()) {
		t.Errorf("changed: %+v", s)
	}
}

func BenchmarkParse(b *testing.B) {
	defaults := Defaults()
	for name, said := range map[string]map[string]string{
		"none": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
		"five": prefixed(map[string]string{"balancer": "p2c", "retries": "2", "hedge": "20ms", "max-connections": "100", "passive-health": "base=5s"}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(said, defaults, policies)
			}
		})
	}
}
