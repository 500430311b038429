package proxier

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// Status returns the present one. It is safe for concurrent use.
func (p *Proxier) Status() admin.Status {
	s := admin.Status{
		Version: p.cfg.Version, Node: p.cfg.NodeName, Started: p.started, Upgrades: p.times, PID: os.Getpid(), Capture: p.data.capture.String(), CaptureWhy: p.captureWhy,
		Connections: p.data.connections.count(), UDPSessions: p.data.packets.Len(),
		Watch: p.watches(), LastState: p.lastState(), StaleSeconds: p.staleSince().Seconds(), Files: openFiles(), Log: admin.Log{Dropped: p.dropped()},
		Ring: admin.Ring{Held: p.recent.Held(), Size: p.recent.Size(), Lost: p.recent.Lost()},
	}
	if from, ok := p.cfg.Source.(fmt.Stringer); ok {
		s.Source = from.String()
	}
	for _, f := range p.data.capture.families() {
		s.Families = append(s.Families, f.String())
	}
	select {
	case <-p.ready:
		s.Ready = true
	default:
	}
	if seen := p.seen.Load(); seen != nil {
		s.Services, s.Ports, s.Rules = seen.countServices(), len(seen.serving), seen.rules
		for _, l := range seen.draining {
			if l.active.Load() > 0 {
				s.Draining++
			}
		}
	}
	s.Rules.ForeignWrites = p.foreign.Load()
	s.Recent, s.RecentSeconds = p.reasons()
	return s
}

// reasons are those of what has ended of late, the most frequent first.
func (p *Proxier) reasons() (list []admin.ReasonCount, overSeconds float64) {
	records, reach := p.recently(lookBack)
	counts := map[observe.Reason]admin.ReasonCount{}
	for _, r := range records {
		c := counts[r.Reason]
		c.Count++
		if r.Trouble() {
			c.Trouble++
		}
		counts[r.Reason] = c
	}
	list = make([]admin.ReasonCount, 0, len(counts))
	for reason, c := range counts {
		c.Reason, c.Code, c.Side, c.Text = string(reason), reason.Code(), string(reason.Side()), reason.Text()
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b admin.ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	return list, seconds(reach)
}

// dropped are the records that were to be logged, and were not.
func (p *Proxier) dropped() uint64 { return p.records.Dropped() + p.records.Lost() }

// openFiles are those of this process.
func openFiles() admin.Gauge {
	g := admin.Gauge{Limit: int64(limit.Files())}
	const path = "/proc/self/fd"
	if info, err := os.Stat(path); err == nil && info.Size() > 0 { // since Linux 6.2 (proc_fd_getattr in fs/proc/fd.c)
		g.Used = info.Size()
		return g
	}
	if d, err := os.Open(path); err == nil {
		defer d.Close()
		names, _ := d.Readdirnames(-1)
		g.Used = int64(max(0, len(names)-1)) // without d
	}
	return g
}

// Endpoints tells of the endpoints of a namespace's Service; where one of the names
// is empty, of all. It is empty before the first pass, and safe for concurrent use.
func (p *Proxier) Endpoints(namespace, service string) []admin.ServicePort {
	list := []admin.ServicePort{}
	seen := p.seen.Load()
	if seen == nil {
		return list
	}
	ports := slices.DeleteFunc(seen.ports(), func(s seenPort) bool {
		return namespace != "" && namespace != s.key.Namespace || service != "" && service != s.key.Name
	})
	list = slices.Grow(list, len(ports))
	for _, s := range ports {
		list = append(list, newPortView(seen.desired, s).status())
	}
	return list
}

// views are what the admin socket shows.
func (p *Proxier) views() map[string]admin.View {
	names := []string{"namespace", "service"}
	live := []string{"namespace", "service", "pod", "client", "limit"}
	return map[string]admin.View{
		"/v1/status":      {Show: func(url.Values) (any, error) { return p.Status(), nil }},
		"/v1/config":      {Show: func(url.Values) (any, error) { return append([]admin.Setting{}, p.cfg.Settings...), nil }},
		"/v1/attention":   {Show: p.onceServing(p.showAttention)},
		"/v1/services":    {Parameters: names, Show: p.onceServing(p.showServices)},
		"/v1/traffic":     {Show: p.onceServing(p.showTraffic)},
		"/v1/map":         {Show: p.onceServing(p.showMap)},
		"/v1/endpoints":   {Parameters: names, Show: p.onceServing(p.showEndpoints)},
		"/v1/connections": {Parameters: slices.Concat(live, []string{"id"}), Show: p.onceServing(p.showConnections)},
		"/v1/sessions":    {Parameters: live, Show: p.onceServing(p.showSessions)},
		"/v1/listeners":   {Parameters: names, Show: p.onceServing(p.showListeners)},
		"/v1/rules":       {Show: p.showRules},
		"/v1/rules/diff":  {Show: p.showRuleDifferences},
		"/v1/explain":     {Parameters: explainParameters, Show: p.showExplanation},
		"/v1/drained":     {Show: p.showDrained},
	}
}

// onceServing has a view say so as long as there is nothing to show.
func (p *Proxier) onceServing(show func(url.Values) (any, error)) func(url.Values) (any, error) {
	return func(q url.Values) (any, error) {
		if p.seen.Load() == nil {
			return nil, &admin.Error{Status: http.StatusServiceUnavailable, Message: "usher has just begun and serves nothing yet; try again"}
		}
		return show(q)
	}
}

func (p *Proxier) showEndpoints(q url.Values) (any, error) {
	of, err := serviceIn(q)
	if err != nil {
		return nil, err
	}
	list := p.Endpoints(of.namespace, of.name)
	if len(list) == 0 && of.name != "" {
		return nil, notServed(of.namespace, of.name)
	}
	return list, nil
}

// serviceIn is the Service, or its namespace, that is asked for.
func serviceIn(q url.Values) (serviceName, error) {
	f, err := filterIn(q, time.Time{})
	return serviceName{f.Namespace, f.Service}, err
}

func notServed(namespace, service string) error {
	return &admin.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("no %s is served on this node", serviceRef(namespace, service))}
}

// seen is a pass for those who ask about it from other goroutines. What it leads to
// is never changed, or is safe for concurrent use.
type seen struct {
	*desired
	serving  []*listener
	draining []*listener
	objects  source.Objects
	rules    admin.Rules
	problems []Problem // of the pass before as long as this one lasts
	early    bool      // there was no pass yet: what another process has handed over
}

// show shows others what a pass has done, and what is wrong.
func (p *Proxier) show(d *desired, objects source.Objects, problems []Problem) {
	p.seen.Store(&seen{d, p.serving, slices.Clone(p.draining), objects, p.rulesNow, problems, false})
}

// showEarly shows what is served before the first objects have come.
func (p *Proxier) showEarly(ports []*Port, node *nodeState, problems []Problem) {
	objects := source.Objects{Node: p.nodeObject}
	d := p.planner.desire(objects, p.facts(node))
	d.ports = ports
	p.seen.Store(&seen{d, p.serving, slices.Clone(p.draining), objects, p.rulesNow, problems, true})
}

// countServices counts those that are served.
func (s *seen) countServices() (n int) {
	var last serviceName
	for _, l := range s.serving { // they are sorted
		if name := (serviceName{l.key.Namespace, l.key.Name}); name != last {
			last = name
			n++
		}
	}
	return n
}

type seenPort struct {
	*listener
	*state
}

// ports are those that are served, as they are now.
func (s *seen) ports() []seenPort {
	list := make([]seenPort, 0, len(s.serving))
	for _, l := range s.serving {
		if now := l.current.Load(); now != nil {
			list = append(list, seenPort{l, now})
		}
	}
	return list
}
