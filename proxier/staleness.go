package proxier

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/source"
)

// staleWatch is when a watch is too old: it is sent something every minute.
const staleWatch = 3 * time.Minute

// watching is a source with an API server.
type watching interface {
	Watches() []source.Watch
	LastState() (source.LastState, bool)
}

// watches are how current the objects are, none if they do not come from an API server.
func (p *Proxier) watches() (list []admin.Watch) {
	api, ok := p.cfg.Source.(watching)
	if !ok {
		return nil
	}
	for _, w := range api.Watches() {
		list = append(list, admin.Watch{Resource: w.Resource, AgeSeconds: age(w.LastContact, p.began), Synced: w.Synced, Lists: w.Lists})
	}
	return list
}

// lastState is the file with the last state, nil if none is kept.
func (p *Proxier) lastState() *admin.LastState {
	api, ok := p.cfg.Source.(watching)
	if !ok {
		return nil
	}
	s, kept := api.LastState()
	if !kept {
		return nil
	}
	told := &admin.LastState{File: s.File, Served: s.Served, Bytes: s.Bytes, Failing: s.Failing}
	if !s.AsOf.IsZero() {
		told.AsOf = &s.AsOf
	}
	return told
}

// staleSince is for how long what is served may have been out of date, 0 if it is current.
func (p *Proxier) staleSince() (longest time.Duration) {
	if s := p.lastState(); s != nil && s.Served {
		return max(time.Since(*s.AsOf), time.Second)
	}
	for _, w := range p.watches() {
		if old := time.Duration(w.AgeSeconds * float64(time.Second)); old > staleWatch {
			longest = max(longest, old)
		}
	}
	return longest
}

// staleness tells of what may be out of date.
func (v *attention) staleness() {
	node := v.nodeRef()
	last := v.lastState()
	if last != nil && last.Served {
		v.add(admin.SeverityWarning, node, "", "LastStateServed", fmt.Sprintf(
			"the last state of %s, %s ago, is served from %s, as the API server has not told all there is since the start; look at whether it can be reached",
			last.AsOf.Format(time.RFC3339), v.staleSince().Round(time.Second), last.File))
	}
	if last != nil && last.Failing != "" {
		v.add(admin.SeverityWarning, node, "", "LastStateFailing", "the last state for a start without the API server: "+last.Failing)
	}
	for _, w := range v.watches() {
		if w.AgeSeconds > staleWatch.Seconds() {
			v.add(admin.SeverityWarning, node, "", "WatchStale", fmt.Sprintf(
				"nothing was heard of %s for %s: changes in the cluster are not served; look at whether the API server can be reached",
				w.Resource, (time.Duration(w.AgeSeconds)*time.Second).String()))
		}
	}
}

// measureStaleness registers what is known of the API server.
func (p *Proxier) measureStaleness() {
	api, ok := p.cfg.Source.(watching)
	if !ok {
		return
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		p.cfg.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "usher_" + name, Help: help, ConstLabels: labels}, value))
	}
	for i, w := range api.Watches() {
		labels := prometheus.Labels{"resource": w.Resource}
		gauge("api_watch_age_seconds", "Time since the API server last sent something of this kind of objects; a watch is sent something every minute.", labels,
			func() float64 { return age(api.Watches()[i].LastContact, p.began) })
		p.cfg.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "usher_api_relists_total", ConstLabels: labels,
			Help: "Times that all objects of this kind were listed again, as the watch could not go on where it was.",
		}, func() float64 { return float64(max(api.Watches()[i].Lists, 1) - 1) }))
	}
	if _, kept := api.LastState(); !kept {
		return
	}
	last := func(of func(source.LastState) bool) func() float64 {
		return func() float64 {
			if s, _ := api.LastState(); of(s) {
				return 1
			}
			return 0
		}
	}
	gauge("last_state_served", "1 while what is served comes from the file with the last state.", nil, last(func(s source.LastState) bool { return s.Served }))
	gauge("last_state_failing", "1 if the file with the last state could not be read or written.", nil, last(func(s source.LastState) bool { return s.Failing != "" }))
	gauge("last_state_age_seconds", "Time since the API server was known to agree with what is in the file with the last state; since the start if that is not known.", nil,
		func() float64 {
			s, _ := api.LastState()
			return age(s.AsOf, p.began)
		})
}
