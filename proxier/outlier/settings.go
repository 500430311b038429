package outlier

import (
	"bytes"
	"time"
)

// Settings say when an endpoint of one Service port is left out although it is
// ready. What makes no sense in them counts as the nearest that does.
type Settings struct {
	Passive Passive
	Check   Check
	// ProxyProtocol is the version of the PROXY protocol header that the endpoints
	// get, 0 for none. Checks and probes over TCP begin with one that says that they
	// speak for no client (v1 UNKNOWN, v2 LOCAL), unless they go to another port.
	ProxyProtocol byte
}

// Passive judges an endpoint by the connections that are made to it.
type Passive struct {
	Failures int           // that many in a row and it is left out; 0: never
	Base     time.Duration // for how long the first time, doubled every time it fails again
	Max      time.Duration // for how long at most
	// MaxEjected is the share of the endpoints, 0 to 1, that is left out at most, for
	// whatever reason. It is rounded down, and the last endpoint is never left out.
	MaxEjected float64
}

// CheckKind is how an endpoint is asked whether it is well.
type CheckKind string

// The kinds of checks.
const (
	CheckOff  CheckKind = ""
	CheckTCP  CheckKind = "tcp"  // connect; with Send and Expect also talk
	CheckHTTP CheckKind = "http" // GET Path: 200 to 399
	CheckUDP  CheckKind = "udp"  // send Send and await any answer, Expect if that is given
)

// Check judges an endpoint by asking it again and again.
type Check struct {
	Kind         CheckKind
	Port         uint16 // another port of the same endpoint; 0: the one that it serves on
	Send, Expect []byte // Expect is somewhere in the first 4096 bytes of the answer
	Path         string // of CheckHTTP, with its query
	Interval     time.Duration
	Timeout      time.Duration // of one check, less than Interval
	Rise         int           // so many good ones in a row bring it back
	Fall         int           // so many bad ones in a row leave it out
}

// longest is what durations are cut to, so that one can reckon with them.
const longest = 365 * 24 * time.Hour

// sane is s with every value in its range.
func (s Settings) sane() Settings {
	p, c := &s.Passive, &s.Check
	p.Failures = max(p.Failures, 0)
	p.Base = min(max(p.Base, time.Millisecond), longest)
	p.Max = min(max(p.Max, p.Base), longest)
	if !(p.MaxEjected >= 0) { // NaN too
		p.MaxEjected = 0
	}
	p.MaxEjected = min(p.MaxEjected, 1)
	switch c.Kind {
	case CheckTCP, CheckHTTP, CheckUDP:
		c.Interval = min(max(c.Interval, time.Millisecond), longest)
		if c.Timeout <= 0 || c.Timeout > c.Interval {
			c.Timeout = c.Interval
		}
		c.Rise, c.Fall = max(c.Rise, 1), max(c.Fall, 1)
	default:
		*c = Check{}
	}
	if s.ProxyProtocol > 2 {
		s.ProxyProtocol = 0
	}
	return s
}

func (c Check) equal(other Check) bool {
	return c.asksLike(other) && c.Interval == other.Interval && c.Timeout == other.Timeout &&
		c.Rise == other.Rise && c.Fall == other.Fall
}

// asksLike says whether both ask the same question.
func (c Check) asksLike(other Check) bool {
	return c.Kind == other.Kind && c.Port == other.Port && c.Path == other.Path &&
		bytes.Equal(c.Send, other.Send) && bytes.Equal(c.Expect, other.Expect)
}

func (s Settings) equal(other Settings) bool {
	return s.Passive == other.Passive && s.ProxyProtocol == other.ProxyProtocol && s.Check.equal(other.Check)
}
