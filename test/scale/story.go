package scale

import (
	"os"
	"testing"
	"time"
)

// measure does all of a plan. It ends the test if something does not come to work at all.
func measure(t testing.TB, p plan, kubeProxy string) *report {
	t.Helper()
	r := &report{plan: p, begun: time.Now(), usher: newFigures("usher"), kubeProxy: newFigures("kube-proxy")}
	s := newSite(t, p)
	s.populate()
	for i := range p.starts {
		last := i == p.starts-1
		s.measureUsher(r.usher, i == 0, last)
		if p.reference {
			s.measureKubeProxy(kubeProxy, r.kubeProxy, last)
		}
	}
	return r
}

// measureUsher measures a start of usher's. The last one goes on to all else.
func (s *site) measureUsher(f *figures, first, last bool) {
	s.t.Helper()
	if first && os.Getenv(profileEnv) != "" {
		s.profileStart()
	}
	p := s.startUsher(s.usher, "")
	defer p.stop()
	s.measureStart(p, f)
	s.measureFill(p, f)
	if !last {
		return
	}
	s.measureAnswers(p, f)
	s.measureAdded(p, f)
	s.measureChanged(p, f)
	s.compareRates(p, f)
	s.measureChurn(p, f)
	s.measureEnd(p, f)
	if os.Getenv(profileEnv) != "" {
		s.must(s.profile(p, "heap", "heap"))
	}
}

// measureKubeProxy is measureUsher for kube-proxy, which cannot be told to serve one Service.
func (s *site) measureKubeProxy(program string, f *figures, last bool) {
	s.t.Helper()
	p := s.startKubeProxy(program)
	defer p.stop()
	s.measureStart(p, f)
	if !last {
		return
	}
	s.measureAnswers(p, f)
	s.measureAdded(p, f)
	s.measureChanged(p, f)
	s.measureRate(p.node.client.NS, s.last().vip(), f, rateLast)
	s.measureChurn(p, f)
	s.measureEnd(p, f)
}

// measureEnd measures what the proxy holds, and has used in all.
func (s *site) measureEnd(p *proxy, f *figures) {
	s.t.Helper()
	u := p.usage()
	f.add(endRSS, u.rss/1e6)
	f.add(endPeak, u.peak/1e6)
	f.add(endCPU, u.cpu.Seconds())
}
