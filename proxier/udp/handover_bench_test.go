package udp

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// BenchmarkHandOver releases 10,000 sessions and resumes them.
func BenchmarkHandOver(b *testing.B) {
	const sessions = 10_000
	l := newLab(b, setup{loops: 2, readers: 2, limits: manySessions, limit: 2 * sessions})
	target := mute(b, "127.0.0.1")
	l.serve(target.addr)
	for i := range sessions {
		c := l.clientFrom(fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250))
		c.send("hello")
		c.Close()
		if i%100 == 99 {
			l.wantPassed(i + 1)
		}
	}
	var release, resume, order []time.Duration
	for b.Loop() {
		start := time.Now()
		state := l.release()
		released := time.Now()
		l.resume(state, target.addr)
		resumed := time.Now()
		l.relay.table.expired(0)
		release, resume, order = append(release, released.Sub(start)), append(resume, resumed.Sub(released)), append(order, time.Since(resumed))
	}
	for name, took := range map[string][]time.Duration{"release": release, "resume": resume, "order": order} {
		slices.Sort(took)
		b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms-"+name)
		b.ReportMetric(took[0].Seconds()*1000, "ms-"+name+"-min")
	}
	if n := l.relay.Len(); n != sessions {
		b.Fatal(n, " sessions")
	}
	l.close(observe.Shutdown)
}
