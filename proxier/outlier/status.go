package outlier

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Status is whether an endpoint is in or out, and why.
type Status struct {
	Endpoint netip.AddrPort `json:"endpoint"`
	Out      bool           `json:"out"`
	// Withheld are the sets that leave it out. In the others it stays in use even if
	// it is out: they may not leave out one more.
	Withheld []string  `json:"withheld,omitempty"`
	Since    time.Time `json:"since,omitzero"`     // when it went out
	Next     time.Time `json:"next,omitzero"`      // when it is asked next
	Failures int       `json:"failures,omitempty"` // connections in a row that have failed
	Why      string    `json:"why"`                // a plain sentence without its subject
}

// Status returns that of every endpoint of every set, by address.
func (d *Detector) Status() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	withheld, kept := d.places()
	all := d.all()
	list := make([]Status, 0, len(all))
	for addr, e := range all {
		list = append(list, Status{Endpoint: addr, Out: e.out(), Withheld: withheld[e], Since: e.since, Next: e.next, Failures: e.failures,
			Why: d.why(e, kept[e], now)})
	}
	slices.SortFunc(list, func(a, b Status) int { return a.Endpoint.Compare(b.Endpoint) })
	return list
}

// all is what is known of the endpoints of all sets, be it nothing.
func (d *Detector) all() map[netip.AddrPort]*endpoint {
	n := 0
	for _, s := range d.sets {
		n = max(n, len(s.endpoints)) // most are in several
	}
	all, nothing := make(map[netip.AddrPort]*endpoint, n), new(endpoint)
	for _, s := range d.sets {
		for i := range s.endpoints {
			addr := s.endpoints[i].Addr
			all[addr] = cmp.Or(d.endpoints[addr], nothing)
		}
	}
	return all
}

// Ill is how many endpoints of all sets are out.
func (d *Detector) Ill() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.endpoints {
		if e.left.IsZero() && e.out() {
			n++
		}
	}
	return n
}

// places tells for each endpoint that is out by which sets it is withheld, and why
// others keep it in use.
func (d *Detector) places() (withheld, kept map[*endpoint][]string) {
	if len(d.endpoints) == 0 {
		return nil, nil // as mostly
	}
	withheld, kept = map[*endpoint][]string{}, map[*endpoint][]string{}
	for _, s := range d.sets {
		those := map[*endpoint]bool{}
		for _, e := range d.withheldOf(s) {
			those[e] = true
			withheld[e] = append(withheld[e], s.name)
		}
		for _, e := range d.outOf(s) {
			if !those[e] {
				kept[e] = append(kept[e], fmt.Sprintf("set %s: no more than %d of %d may be left out", s.name, s.most(d.settings.Passive), len(s.endpoints)))
			}
		}
	}
	return withheld, kept
}

// why is all that is known, in one sentence.
func (d *Detector) why(e *endpoint, kept []string, now time.Time) string {
	say := []string{"in"}
	if e.out() {
		say[0] = "ill for " + coarse(now.Sub(e.since))
	}
	say = append(say, d.connections(e, now)...)
	say = append(say, d.checks(e)...)
	if e.own != nil {
		say = append(say, "the last attempt to ask it failed here and says nothing of it: "+text(e.own))
	}
	if len(kept) > 0 {
		say = append(say, "stays in use all the same ("+strings.Join(kept, "; ")+")")
	}
	if len(say) == 1 {
		say = append(say, "nothing speaks against it")
	}
	return strings.Join(say, ", ")
}

// connections is what they say of an endpoint.
func (d *Detector) connections(e *endpoint, now time.Time) (say []string) {
	p := d.settings.Passive
	switch {
	case e.ejected:
		say = append(say, d.ejection(e))
		if wait := e.until.Sub(now); wait > 0 {
			say = append(say, fmt.Sprintf("%s in %s", d.verdict(), coarse(wait)))
		} else {
			say = append(say, d.verdict()+" now")
		}
	case e.failures > 0:
		say = append(say, fmt.Sprintf("%s failed (%s), %d in a row leave it out", count(e.failures, "connection"), text(e.failure), p.Failures))
	}
	if n := e.standing(p, now); n > 0 && !e.ejected {
		say = append(say, fmt.Sprintf("left out before, so that its next back-off is %s", p.backOff(n+1)))
	}
	return say
}

func (d *Detector) ejection(e *endpoint) string {
	return fmt.Sprintf("%s in a row failed (%s), its back-off is %s", count(e.failures, "connection"), text(e.failure), d.settings.Passive.backOff(e.ejections))
}

// verdict is what the end of a back-off means.
func (d *Detector) verdict() string {
	switch {
	case d.settings.Check.Kind != CheckOff:
		return "a good check brings it back"
	case d.udp:
		return "it comes back"
	}
	return "a probe decides"
}

// checks is what they say of an endpoint.
func (d *Detector) checks(e *endpoint) []string {
	c := d.settings.Check
	switch {
	case e.failed && e.good > 0:
		return []string{fmt.Sprintf("checks failed (%s), %s of %d that bring it back", text(e.complaint), count(e.good, "good one"), c.Rise)}
	case e.failed:
		return []string{d.failing(e)}
	case e.bad > 0:
		return []string{fmt.Sprintf("%s failed (%s), %d in a row leave it out", count(e.bad, "check"), text(e.complaint), c.Fall)}
	case c.Kind != CheckOff && e.good > 0:
		return []string{"the last check was good"}
	case c.Kind != CheckOff:
		return []string{"not checked yet"}
	}
	return nil
}

func (d *Detector) failing(e *endpoint) string {
	return fmt.Sprintf("%s in a row failed (%s), %d good in a row bring it back", count(max(e.bad, 1), "check"), text(e.complaint), d.settings.Check.Rise)
}

// reason is why an endpoint has just gone out or come back.
func (d *Detector) reason(e *endpoint, by Cause) string {
	switch {
	case e.ejected:
		return d.ejection(e) + ", then " + d.verdict()
	case e.failed:
		return d.failing(e)
	}
	return map[Cause]string{
		ByConnections: "a connection succeeded",
		ByChecks:      "checks succeed",
		ByProbe:       "the probe succeeded",
		ByTime:        "its back-off is over",
		BySettings:    "what left it out was turned off",
	}[by]
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// text is an error in one short line.
func text(err error) string {
	if err == nil {
		return "for a reason that is not known"
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		err = op.Err // whose address it is about is known
	}
	const most = 160
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	if len(line) > most {
		line = line[:most] + "..."
	}
	return strings.ToValidUTF8(line, "?")
}

// coarse is a duration as people say it.
func coarse(d time.Duration) string {
	return cmp.Or(d.Round(time.Second), d.Round(time.Millisecond)).String()
}
