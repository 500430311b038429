package relay

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"time"
)

// bystander is an owner that nobody has anything to tell.
type bystander struct{}

func (bystander) Answered(time.Duration) {}
func (bystander) EndedEarly(*EarlyEnd)   {}
func (bystander) Panicked(any)           {}
func (bystander) Ended(Result)           {}

// BenchmarkHandOver hands all relays of a process over, again and again. The times and
// allocations are those of one relay; cpu is that of the whole process. The idle ones and
// their peers take 18,000 files. Most of what one of them takes is epoll_ctl(2), four times.
func BenchmarkHandOver(b *testing.B) {
	b.Run("idle", func(b *testing.B) { handOverAll(b, 4500, false) })
	b.Run("busy", func(b *testing.B) { handOverAll(b, 50, true) })
}

func handOverAll(b *testing.B, n int, busy bool) {
	front, back := listen(b), listen(b)
	s := settings(time.Minute, false)
	relays := make([]*Relay, n)
	for i := range relays {
		client, ours := connect(b, front)
		theirs, backend := connect(b, back)
		relays[i] = New(adopt(b, ours), adopt(b, theirs), s, bystander{})
		relays[i].Start()
		one := make([]byte, 1)
		client.Write(one)
		io.ReadFull(backend, one)
		backend.Write(one)
		io.ReadFull(client, one)
		b.Cleanup(func() { client.Close(); backend.Close() })
		if busy {
			go io.Copy(backend, forEver{})
			go io.Copy(io.Discard, client)
		}
	}
	defer func() {
		for _, r := range relays {
			r.Abort("shutdown")
		}
	}()
	var all []Released
	var release, resume phase
	b.ResetTimer()
	for b.Loop() {
		release.measure(b, func() {
			all = ReleaseAll(relays)
		})
		resume.measure(b, func() {
			for i := range all {
				c := &all[i]
				r, err := Resume(c.Client, c.Backend, c.State, s, bystander{})
				if err = errors.Join(c.Err, err); err != nil {
					b.Fatal(err)
				}
				relays[i] = r
				r.Start()
			}
		})
	}
	release.report(b, "release", n)
	resume.report(b, "resume", n)
}

// forEver is what a busy peer sends.
type forEver struct{}

func (forEver) Read(p []byte) (int, error) { return len(p), nil }

// phase is what one part of a hand-over costs.
type phase struct {
	took, cpu time.Duration
	allocs    uint64
}

func (p *phase) measure(b *testing.B, do func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, start := cpu(b), time.Now()
	do()
	p.took += time.Since(start)
	p.cpu += cpu(b) - used
	runtime.ReadMemStats(&after)
	p.allocs += after.Mallocs - before.Mallocs
}

func (p *phase) report(b *testing.B, name string, n int) {
	each := float64(b.N) * float64(n)
	b.ReportMetric(float64(p.took.Nanoseconds())/each, name+"-ns")
	b.ReportMetric(float64(p.cpu.Nanoseconds())/each, name+"-cpu-ns")
	b.ReportMetric(float64(p.allocs)/each, name+"-allocs")
}
