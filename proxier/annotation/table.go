package annotation

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// Doc is what there is to know of an annotation.
type Doc struct {
	Name    string // after the prefix
	Values  string // those that it may have
	Default string // what counts without it, unless the flag says otherwise
	Flag    string // of usher run, which sets it for all Services; "" if there is none
	Help    string
}

// entry is an annotation.
type entry struct {
	Doc
	// set puts a value into s if it means something, else it returns what is wanted.
	// The value is not empty and has no blanks around it.
	set func(s *Settings, value string, policies []string) error
}

// maxNumber is the most of any limit. How many there really are depends on the
// limits of the process.
const maxNumber = 1_000_000

// entries are all annotations, in the order of their documentation.
var entries = []entry{
	{Doc{"balancer", policyNames(), balancer.Names()[0], "balancer", "the policy that picks an endpoint for each connection"},
		func(s *Settings, value string, policies []string) error {
			if !slices.Contains(policies, value) {
				return fmt.Errorf("want one of %s", strings.Join(policies, ", "))
			}
			s.Balancer = value
			return nil
		}},
	{Doc{"weights", "`zone=NAME:WEIGHT`, `node=NAME:WEIGHT`, `pod=NAME:WEIGHT`, `address=IPV4:WEIGHT` or `address=[IPV6]:WEIGHT`, or a list of them; WEIGHT from 1 to 100", "", "",
		"the shares of endpoints relative to each other; what nothing names weighs 1; address goes before pod, pod before node, node before zone"},
		func(s *Settings, value string, _ []string) error {
			weights, err := readWeights(value)
			if err == nil {
				s.Weights = weights
			}
			return err
		}},
	{Doc{"slow-start", "`off`, 1s to 1h", "off", "slow-start", "how long a new endpoint takes to its full share"},
		func(s *Settings, value string, _ []string) error {
			return readDurationOr(0, &s.SlowStart, value, time.Second, time.Hour)
		}},
	{Doc{"retries", "0 to 8", "3", "retries", "further endpoints to try when one cannot be connected to"},
		func(s *Settings, value string, _ []string) error {
			retries := 0
			if err := readInt(&retries, value, 0, 8); err != nil {
				return err
			}
			s.Retry.Attempts = retries + 1
			return nil
		}},
	{Doc{"retry-on", "a list of `refused`, `unreachable`, `timeout`, `reset-early`", "refused,unreachable,timeout", "retry-on",
		"the failures after which another endpoint is tried; reset-early sends what the client has said to a second endpoint, which is safe only where saying it twice does no harm"},
		readRetryOn},
	{Doc{"connect-timeout", "50ms to 1m, at most total-connect-timeout", "2s", "connect-timeout", "for one attempt to connect to an endpoint"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.Retry.Timeout, value, 50*time.Millisecond, time.Minute)
		}},
	{Doc{"total-connect-timeout", "50ms to 10m", "10s", "total-connect-timeout", "for all attempts of one connection"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.Retry.Total, value, 50*time.Millisecond, 10*time.Minute)
		}},
	{Doc{"retry-budget", "`P%,N/s`, or one of both; P from 0 to 1000, N from 0 to 1000000", "100%,10/s", "retry-budget",
		"the attempts after the first that there may be at each port of the Service: so many for each hundred connections, and so many a second besides"},
		readRetryBudget},
	{Doc{"hedge", "`off`, 5ms to 10s", "off", "hedge", "how long an attempt may take before another one begins beside it; the first that succeeds is taken; not for clients with session affinity"},
		func(s *Settings, value string, _ []string) error {
			return readDurationOr(0, &s.Retry.Hedge, value, 5*time.Millisecond, 10*time.Second)
		}},
	{Doc{"half-close-timeout", "1s to 24h", "1h", "half-close-timeout", "how long one side may be silent after the other one has closed"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.Relay.HalfClose, value, time.Second, 24*time.Hour)
		}},
	{Doc{"idle-timeout", "`off`, 1s to 24h", "off", "idle-timeout", "how long a TCP connection may go on while no byte moves in either direction; then both sides get a reset. Connections that exist keep their limit"},
		func(s *Settings, value string, _ []string) error {
			return readDurationOr(0, &s.Relay.Idle, value, time.Second, 24*time.Hour)
		}},
	{Doc{"max-connection-duration", "`off`, 1s to 720h", "off", "max-connection-duration", "how long a TCP connection may go on, whatever moves, from when it has an endpoint; then both sides get a reset. Connections that exist keep their limit"},
		func(s *Settings, value string, _ []string) error {
			return readDurationOr(0, &s.Relay.Duration, value, time.Second, 720*time.Hour)
		}},
	{Doc{"tcp-keepalive", "`off`, or `IDLE[,INTERVAL[,COUNT]]`: whole seconds from 1s to 2h, and 1 to 100", "30s,15s,4", "tcp-keepalive",
		"how long a client or an endpoint may say nothing before the kernel asks it for a sign of life, after which time again, and how often until it is gone; what is not said is as in the default. Connections that exist keep what they have"},
		readKeepAlive},
	{Doc{"tcp-user-timeout", "`off`, 1s to 1h", "off", "tcp-user-timeout",
		"how long a client or an endpoint may leave unacknowledged what was sent to it, before it is gone; off: about 15 minutes (tcp_retries2). It also ends connections to a peer that is alive and reads nothing for so long, and takes the place of the COUNT of tcp-keepalive. Connections that exist keep what they have"},
		func(s *Settings, value string, _ []string) error {
			return readDurationOr(0, &s.Relay.Peer.UserTimeout, value, time.Second, time.Hour)
		}},

	{Doc{"max-connections", "0 to 1000000; 0: no limit", "0", "max-connections-per-service", "connections that each port of the Service may have on a node"},
		func(s *Settings, value string, _ []string) error {
			return readInt(&s.Limits.Connections, value, 0, maxNumber)
		}},
	{Doc{"max-connections-per-endpoint", "0 to 1000000; 0: no limit", "0", "max-connections-per-endpoint", "those to each endpoint"},
		func(s *Settings, value string, _ []string) error {
			return readInt(&s.Limits.PerEndpoint, value, 0, maxNumber)
		}},
	{Doc{"max-connections-per-client", "0 to 1000000; 0: no limit", "0", "max-connections-per-client", "those from each client address"},
		func(s *Settings, value string, _ []string) error {
			return readInt(&s.Limits.PerClient, value, 0, maxNumber)
		}},
	{Doc{"connection-rate", "`off`, `N/s` or `N/s,BURST`; N from 0.1 to 1000000, BURST from 1 to 1000000", "off", "connection-rate",
		"connections that may begin each second, and at once; without BURST as many as in a second"},
		readConnectionRate},
	{Doc{"on-limit", "`reset`, `wait:DURATION` up to 30s", "reset", "on-limit", "what becomes of a connection beyond a limit: it is reset at once, or when it has waited in vain"},
		readOnLimit},

	{Doc{"health-check", "`off`, `tcp`, `tcp:send=TEXT,expect=TEXT`, `tcp:expect=TEXT`, `http:/PATH`, `udp:HEX`, `udp:HEX,expect=HEX`; with `@PORT` before the colon if it is for another port of the endpoint", "off", "",
		"asks every endpoint again and again whether it is well: by a connection, by what it answers, by the status 200 to 399 of a GET, by any datagram. TEXT may have `\\r` `\\n` `\\t` `\\,` `\\\\` `\\xHH`"},
		func(s *Settings, value string, _ []string) error { return readHealthCheck(&s.Outlier.Check, value) }},
	{Doc{"health-interval", "1s to 10m", "10s", "", "the time between two checks of an endpoint"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.Outlier.Check.Interval, value, time.Second, 10*time.Minute)
		}},
	{Doc{"health-timeout", "10ms to 10m, less than health-interval", "2s", "", "for one check; half of health-interval if that is shorter"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.Outlier.Check.Timeout, value, 10*time.Millisecond, 10*time.Minute)
		}},
	{Doc{"health-rise", "1 to 10", "2", "", "good checks in a row that bring an endpoint back"},
		func(s *Settings, value string, _ []string) error {
			return readInt(&s.Outlier.Check.Rise, value, 1, 10)
		}},
	{Doc{"health-fall", "1 to 10", "3", "", "bad checks in a row that leave an endpoint out"},
		func(s *Settings, value string, _ []string) error {
			return readInt(&s.Outlier.Check.Fall, value, 1, 10)
		}},
	{Doc{"passive-health", "`off`, `on`, or a list of `consecutive-failures=` 1 to 100, `base=` 1s to 1h, `max=` base to 24h, `max-ejected=` 1% to 100%", "consecutive-failures=5,base=10s,max=5m,max-ejected=50%", "passive-health",
		"leaves an endpoint out that could not be connected to so many times in a row: first for the time base, each further time for twice as long up to max, and never more than a share of all"},
		readPassiveHealth},

	{Doc{"drain-timeout", "`off`, 0 to 1h", "off", "endpoint-drain-timeout", "how long connections to an endpoint that leaves may go on; off: for as long as they like"},
		func(s *Settings, value string, _ []string) error {
			return readDurationOr(-1, &s.Drain.Timeout, value, 0, time.Hour)
		}},
	{Doc{"on-endpoint-unready", "`keep`, `drain`, `reset`", "keep", "on-endpoint-unready", "what becomes of connections to an endpoint that is not ready any more: nothing, the same as if it had left, or an end at once"},
		func(s *Settings, value string, _ []string) error {
			return readChoice(&s.Drain.Unready, value, []string{"keep", "drain", "reset"},
				map[string]Unready{"keep": UnreadyKeep, "drain": UnreadyDrain, "reset": UnreadyReset})
		}},

	{Doc{"proxy-protocol", "`off`, `v1`, `v2`", "off", "", "the version of the PROXY protocol header that TCP connections to endpoints begin with; it has the client's address"},
		func(s *Settings, value string, _ []string) error {
			err := readChoice(&s.ProxyProtocol, value, []string{"off", "v1", "v2"}, map[string]byte{"off": 0, "v1": 1, "v2": 2})
			s.Outlier.ProxyProtocol = s.ProxyProtocol // which checks begin with, too
			return err
		}},

	{Doc{"udp-idle-timeout", "1s to 1h", "30s", "udp-idle-timeout", "for the first reply of a UDP endpoint; without one the session ends"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.UDP.Idle, value, time.Second, time.Hour)
		}},
	{Doc{"udp-stream-timeout", "1s to 24h", "2m", "udp-stream-timeout", "for the next datagram once the endpoint has replied"},
		func(s *Settings, value string, _ []string) error {
			return readDuration(&s.UDP.Stream, value, time.Second, 24*time.Hour)
		}},
	{Doc{"udp-max-sessions", "1 to 1000000", "4096", "udp-max-sessions-per-service", "UDP sessions that each port of the Service may have on a node"},
		func(s *Settings, value string, _ []string) error {
			return readInt(&s.UDP.Sessions, value, 1, maxNumber)
		}},

	{Doc{"log", "`all`, `errors`, `off`, `1/N` with N from 1 to 1000000", "all", "log-connections",
		"which connections and UDP sessions have a line in the log; 1/N: one of N that went well, and all others. Metrics and what `usher observe` shows have all"},
		readLog},
}

func policyNames() string {
	return "`" + strings.Join(balancer.Names(), "`, `") + "`, or one that was built in besides"
}

// byName finds an annotation.
var byName = func() map[string]entry {
	all := make(map[string]entry, len(entries))
	for _, e := range entries {
		all[e.Name] = e
	}
	return all
}()

func readRetryOn(s *Settings, value string, _ []string) error {
	var on dial.Failures
	for _, item := range items(value) {
		var one dial.Failures
		words := []string{"refused", "unreachable", "timeout", "reset-early"}
		err := readChoice(&one, item, words, map[string]dial.Failures{
			"refused": dial.Refused, "unreachable": dial.Unreachable, "timeout": dial.Timeout, "reset-early": dial.ResetEarly,
		})
		if err != nil {
			return fmt.Errorf("want a list of %s", either(words))
		}
		on |= one
	}
	s.Retry.On = on
	return nil
}

// readRetryBudget reads 100%,10/s, in any order. A part that is missing is 0.
func readRetryBudget(s *Settings, value string, _ []string) error {
	var budget dial.Budget
	parts := items(value)
	for _, part := range parts {
		err := readShare(&budget.Share, part, 0, 10)
		if err != nil {
			err = readPerSecond(&budget.PerSecond, part, 0, maxNumber)
		}
		if err != nil || len(parts) > 2 || len(parts) == 2 && strings.HasSuffix(parts[0], "%") == strings.HasSuffix(parts[1], "%") {
			return fmt.Errorf("want P%%,N/s with P from 0 to 1000 and N from 0 to %d, or one of both", maxNumber)
		}
	}
	s.Retry.Budget = budget
	return nil
}

// readLog reads 1/100.
func readLog(s *Settings, value string, _ []string) error {
	of, isShare := strings.CutPrefix(value, "1/")
	n := 0
	switch {
	case isShare && readInt(&n, of, 1, maxNumber) == nil:
		s.Log = observe.Share(n)
		return nil
	case isShare || readChoice(&s.Log, value, []string{"all", "errors", "off"}, map[string]observe.Share{"all": observe.All, "errors": observe.Errors, "off": observe.None}) != nil:
		return fmt.Errorf("want all, errors, off, or 1/N with N from 1 to %d", maxNumber)
	}
	return nil
}

// readKeepAlive reads 30s,15s,4.
func readKeepAlive(s *Settings, value string, _ []string) error {
	if value == "off" {
		s.Relay.Peer.KeepAlive = tcp.KeepAlive{}
		return nil
	}
	k, parts := keepAlive(), items(value)
	err := readSeconds(&k.Idle, parts[0], time.Second, 2*time.Hour)
	if len(parts) > 1 && err == nil {
		err = readSeconds(&k.Interval, parts[1], time.Second, 2*time.Hour)
	}
	if len(parts) > 2 && err == nil {
		err = readInt(&k.Count, parts[2], 1, 100)
	}
	if err != nil || len(parts) > 3 {
		return errors.New("want off, or IDLE[,INTERVAL[,COUNT]] with whole seconds from 1s to 2h and COUNT from 1 to 100")
	}
	s.Relay.Peer.KeepAlive = k
	return nil
}

func readConnectionRate(s *Settings, value string, _ []string) error {
	if value == "off" {
		s.Limits.Rate = limit.Rate{}
		return nil
	}
	var rate limit.Rate
	perSecond, burst, hasBurst := strings.Cut(value, ",")
	err := readPerSecond(&rate.PerSecond, strings.TrimSpace(perSecond), 0.1, maxNumber)
	rate.Burst = int(math.Ceil(rate.PerSecond))
	if hasBurst && err == nil {
		err = readInt(&rate.Burst, burst, 1, maxNumber)
	}
	if err != nil {
		return fmt.Errorf("want off, or N/s or N/s,BURST with N from 0.1 to %d and BURST from 1 to %d", maxNumber, maxNumber)
	}
	s.Limits.Rate = rate
	return nil
}

func readOnLimit(s *Settings, value string, _ []string) error {
	if value == "reset" {
		s.Limits.Wait = 0
		return nil
	}
	duration, found := strings.CutPrefix(value, "wait:")
	if !found || readDuration(&s.Limits.Wait, duration, time.Millisecond, 30*time.Second) != nil {
		return errors.New("want reset, or wait:DURATION with a duration from 1ms to 30s")
	}
	return nil
}

// readPassiveHealth lets on stand for what the flags say, or for the defaults where
// these say off; a list changes parts of that.
func readPassiveHealth(s *Settings, value string, _ []string) error {
	if value == "off" {
		s.Outlier.Passive.Failures = 0
		return nil
	}
	p := s.Outlier.Passive
	if p.Failures == 0 {
		p = passive()
	}
	if value != "on" {
		if err := readPassive(&p, value); err != nil {
			return err
		}
	}
	s.Outlier.Passive = p
	return nil
}

func readPassive(p *outlier.Passive, value string) error {
	seen := map[string]bool{}
	for _, item := range items(value) {
		name, text, _ := strings.Cut(item, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		var err error
		switch name {
		case "consecutive-failures":
			err = readInt(&p.Failures, text, 1, 100)
		case "base":
			err = readDuration(&p.Base, text, time.Second, time.Hour)
		case "max":
			err = readDuration(&p.Max, text, time.Second, 24*time.Hour)
		case "max-ejected":
			err = readShare(&p.MaxEjected, text, 0.01, 1)
		default:
			return errors.New("want off, on, or a list of consecutive-failures=N, base=DURATION, max=DURATION and max-ejected=P%")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if seen[name] {
			return fmt.Errorf("%s is in it twice", name)
		}
		seen[name] = true
	}
	if p.Max >= p.Base {
		return nil
	}
	if seen["base"] && !seen["max"] { // the longer one was not asked for
		p.Max = p.Base
		return nil
	}
	return fmt.Errorf("max: want at least base, which is %s", short(p.Base))
}
