package proxier

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/source"
)

// unheard is a source with an API server that was last heard of some time ago.
type unheard struct {
	*memory
	heard time.Time
	last  source.LastState
}

func (s unheard) Watches() []source.Watch {
	return []source.Watch{{Resource: "services", LastContact: s.heard, Synced: true, Lists: 3}}
}

func (s unheard) LastState() (source.LastState, bool) { return s.last, s.last.File != "" }

// Who looks at a usher whose API server is away sees since when, and what is served instead.
func TestStaleness(t *testing.T) {
	for name, c := range map[string]struct {
		source unheard
		stale  time.Duration
		tells  []string // reasons of what needs attention
		served float64  // the metric, -1: there is none
	}{
		"all is well":       {unheard{heard: time.Now()}, 0, nil, -1},
		"a minute is usual": {unheard{heard: time.Now().Add(-time.Minute)}, 0, nil, -1},
		"silence":           {unheard{heard: time.Now().Add(-5 * time.Minute)}, 5 * time.Minute, []string{"WatchStale"}, -1},
		"the last state": {unheard{heard: time.Now(), last: source.LastState{File: "kept", Served: true, AsOf: time.Now().Add(-time.Hour)}},
			time.Hour, []string{"LastStateServed"}, 1},
		"it cannot be kept": {unheard{heard: time.Now(), last: source.LastState{File: "kept", Failing: "no space"}}, 0, []string{"LastStateFailing"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			s := newScene(t, func(cfg *Config) {
				c.source.memory = cfg.Source.(*scene).memory
				cfg.Source, cfg.Registry = c.source, registry
			})
			now := s.proxier.Status()
			if got := time.Duration(now.StaleSeconds * float64(time.Second)).Round(time.Minute); got != c.stale {
				t.Errorf("stale for %v, want %v", got, c.stale)
			}
			var told []string
			for _, a := range s.proxier.Attention() {
				if strings.HasPrefix(a.Reason, "LastState") || a.Reason == "WatchStale" {
					told = append(told, a.Reason)
					if a.Severity != admin.SeverityWarning {
						t.Errorf("%+v: what is served is", a)
					}
				}
			}
			if !slices.Equal(told, c.tells) {
				t.Errorf("it tells %v, want %v", told, c.tells)
			}
			if kept := now.LastState != nil; kept != (c.served >= 0) || kept && now.LastState.File != "kept" {
				t.Errorf("the last state is %+v", now.LastState)
			}
			values := gathered(t, registry)
			if got, known := values["usher_last_state_served"]; known != (c.served >= 0) || known && got != c.served {
				t.Errorf("usher_last_state_served is %v, %v", got, known)
			}
			if values["usher_api_relists_total"] != 2 {
				t.Errorf("usher_api_relists_total is %v", values["usher_api_relists_total"])
			}
		})
	}
}

// gathered are the values of metrics that have one.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		values[f.GetName()] = f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
	}
	return values
}
