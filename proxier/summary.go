package proxier

import (
	"fmt"
	"strings"
	"time"
)

// tally is what a pass has left, counted once.
type tally struct {
	of                  *seen
	services, endpoints int
}

// Summary is one line on how usher is: whether it serves, how much, and what stands in the
// way. It is safe for concurrent use.
func (p *Proxier) Summary() string {
	seen := p.seen.Load()
	select {
	case <-p.loopEnded:
		return "ending: " + counted(p.data.connections.count(), "connection") + " left"
	case <-p.ready:
	default:
		return "not serving yet: " + p.awaited(seen)
	}
	if seen == nil {
		return "going on with " + counted(p.data.connections.count(), "connection") + " of the usher before; " + p.awaited(nil)
	}
	t := p.tallied(seen)
	parts := []string{counted(t.services, "Service"), counted(t.endpoints, "endpoint"), counted(p.data.connections.count(), "connection")}
	if n := p.data.packets.Len(); n > 0 {
		parts = append(parts, counted(n, "UDP session"))
	}
	text := strings.Join(parts, ", ")
	if seen.rules.Failing != "" {
		text += "; " + seen.rules.Failing
	}
	if silent := p.silent(); silent > staleWatch {
		text += fmt.Sprintf("; API server silent for %s: serving the last state", minutes(silent))
	}
	return text
}

// awaited is what the first complete state waits for.
func (p *Proxier) awaited(seen *seen) string {
	if seen != nil && seen.rules.Failing != "" {
		return seen.rules.Failing
	}
	var missing []string
	for _, w := range p.watches() {
		if !w.Synced {
			missing = append(missing, w.Resource)
		}
	}
	if len(missing) > 0 {
		return "waiting for " + strings.Join(missing, ", ") + " from " + fmt.Sprint(p.cfg.Source)
	}
	return "waiting for the first pass to succeed"
}

// tallied counts what is served, if that is not of the same pass as the last time.
func (p *Proxier) tallied(seen *seen) *tally {
	if t := p.tally.Load(); t != nil && t.of == seen {
		return t
	}
	t := &tally{of: seen, services: seen.countServices()}
	for _, port := range seen.ports() {
		t.endpoints += len(port.port.Cluster.Endpoints)
	}
	p.tally.Store(t)
	return t
}

// silent is how long nothing was heard of some kind of object.
func (p *Proxier) silent() (longest time.Duration) {
	for _, w := range p.watches() {
		longest = max(longest, time.Duration(w.AgeSeconds*float64(time.Second)))
	}
	return longest
}

// minutes is a time in whole minutes, as in 1h3m.
func minutes(d time.Duration) string {
	return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
}
