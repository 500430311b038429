package policies

import (
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// share is the part of the connections to one endpoint since a time, and of how many.
func (s *site) share(addr netip.AddrPort, since time.Time) (part, whole float64) {
	for _, r := range s.records {
		if r.Start.Before(since) || !r.Backend().Addr.IsValid() {
			continue
		}
		whole++
		if r.Backend().Addr == addr {
			part++
		}
	}
	return part, whole
}

// connects are how long connections took from accept until an endpoint stood: those accepted
// before a time, and after it.
func (s *site) connects(t time.Time) (before, after []time.Duration) {
	for _, r := range s.records {
		if !r.Backend().Addr.IsValid() {
			continue
		}
		last := r.Attempts[len(r.Attempts)-1]
		if took := last.Start + last.Duration; r.Start.Before(t) {
			before = append(before, took)
		} else {
			after = append(after, took)
		}
	}
	return before, after
}

// attempt is one to an endpoint.
type attempt struct {
	at     time.Time
	result observe.Reason
}

// attempts are all those to an endpoint.
func (s *site) attempts(addr netip.AddrPort) (all []attempt) {
	for _, r := range s.records {
		for _, a := range r.Attempts {
			if a.Backend == addr {
				all = append(all, attempt{r.Start.Add(a.Start), a.Result})
			}
		}
	}
	return all
}

// refused is how many attempts an endpoint has refused.
func (s *site) refused(addr netip.AddrPort) (n int) {
	for _, a := range s.attempts(addr) {
		if a.result == observe.BackendRefused {
			n++
		}
	}
	return n
}

// lastBefore and firstAfter are when an endpoint was chosen around a time, zero if it was not.
func (s *site) lastBefore(addr netip.AddrPort, t time.Time) (last time.Time) {
	for _, a := range s.attempts(addr) {
		if a.at.Before(t) && a.at.After(last) {
			last = a.at
		}
	}
	return last
}

func (s *site) firstAfter(addr netip.AddrPort, t time.Time) (first time.Time) {
	for _, a := range s.attempts(addr) {
		if !a.at.Before(t) && (first.IsZero() || a.at.Before(first)) {
			first = a.at
		}
	}
	return first
}
