package scale

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// sample is how many Services tell, besides the last one, when all are served.
const sample = 20

// awaitStart waits until the last Service answers, and some others, and returns how long it took
// since the proxy began.
func (s *site) awaitStart(p *proxy) (time.Duration, error) {
	numbers := []number{s.last()}
	for range sample {
		numbers = append(numbers, number(rand.IntN(s.services)))
	}
	var last time.Time
	for _, n := range numbers {
		at, err := awaitAnswer(p.node.client.NS, n.vip(), time.Until(p.began.Add(s.patience)), anyAnswer)
		if err != nil {
			return 0, fmt.Errorf("the start at %d Services: %w", s.services, err)
		}
		last = at
	}
	return last.Sub(p.began), nil
}

// measureStart measures a start.
func (s *site) measureStart(p *proxy, f *figures) {
	s.t.Helper()
	took, err := s.awaitStart(p)
	s.must(err)
	f.add(startTime, took.Seconds())
	u := p.usage()
	f.add(startCPU, u.cpu.Seconds())
	f.add(startRSS, u.rss/1e6)
	s.tell("%s: the last Service answers after %.2f s", f.proxy, took.Seconds())
}

// measureFill measures how much of usher's start was its own: from its log line that the lists
// are complete to its metric of when a pass has last opened listeners and written rules. If there
// was a second pass meanwhile, that one counts.
func (s *site) measureFill(p *proxy, f *figures) {
	s.t.Helper()
	var m map[string]float64
	netns.Eventually(s.t, "usher's first pass ends", func() error {
		m = p.metrics()
		// A scrape may see one without the other.
		if m["usher_sync_last_success_timestamp_seconds"] == 0 || m["usher_sync_duration_seconds_count"] == 0 {
			return errors.New("none has succeeded")
		}
		return nil
	})
	written := time.UnixMicro(int64(1e6 * m["usher_sync_last_success_timestamp_seconds"]))
	f.add(fill, written.Sub(p.saidAt("Services to serve")).Seconds())
	f.add(passTime, m["usher_sync_duration_seconds_sum"])
	f.add(passes, m["usher_sync_duration_seconds_count"])
}

// measureAnswers counts the Services that answer.
func (s *site) measureAnswers(p *proxy, f *figures) {
	f.add(answering, float64(askEach(p.node.client.NS, s.services)))
}

// measureRate measures connections to one Service as fast as they are answered.
func (s *site) measureRate(client *netns.NS, to netip.AddrPort, f *figures, name string) {
	s.t.Helper()
	rate, failures := askAsFastAsAnswered(client, to, s.load)
	if len(failures) > 0 {
		s.t.Errorf("%s, %s: %d connections failed, such as: %v", f.proxy, name, len(failures), failures[0])
	}
	f.add(name, rate)
}

// compareRates measures them through the last of all Services, and on another node through the
// only one, in turns.
func (s *site) compareRates(p *proxy, f *figures) {
	s.t.Helper()
	only := s.startUsher(s.other, singleProxy)
	defer only.stop()
	_, err := awaitAnswer(s.other.client.NS, s.single().vip(), s.patience, anyAnswer)
	s.must(err)
	both := []func(){
		func() { s.measureRate(s.other.client.NS, s.single().vip(), f, rateOne) },
		func() { s.measureRate(p.node.client.NS, s.last().vip(), f, rateLast) },
	}
	for round := range s.rounds {
		both[round%2]()
		both[1-round%2]()
	}
	ratio := make([]float64, s.rounds)
	for i := range ratio {
		ratio[i] = f.Samples[rateLast][i] / f.Samples[rateOne][i]
	}
	f.add(rateKept, ratio...)
	s.tell("%s: %.2f of the connections a second with one Service", f.proxy, f.value(rateKept))
}
