package balancer_test

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// successor is an Affinity of another process, which has got what an earlier one had
// written down.
func successor(t *testing.T, of *balancer.Affinity, limit int) *balancer.Affinity {
	t.Helper()
	written, err := json.Marshal(of.Entries())
	if err != nil {
		t.Fatal(err)
	}
	var read []balancer.AffinityEntry
	if err := json.Unmarshal(written, &read); err != nil {
		t.Fatal(err)
	}
	a := balancer.NewAffinity(limit)
	a.Restore(read)
	return a
}

func TestAffinityOutlivesItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := balancertest.Endpoints(3)
		old := balancer.NewAffinity(10)
		p := sticky(old, set, time.Hour)
		expect(t, "client 1", connect(t, p, clientN(1)), "0 new")
		expect(t, "client 2", connect(t, p, clientN(2)), "1 new")
		time.Sleep(40 * time.Minute)
		expect(t, "client 1 again", connect(t, p, clientN(1)), "0 hit")
		expect(t, "client 3", connect(t, p, clientN(3)), "2 new")
		time.Sleep(10 * time.Minute)
		want := []balancer.AffinityEntry{
			{Client: clientN(2), Endpoint: set[1].Addr, Ago: 50 * time.Minute},
			{Client: clientN(1), Endpoint: set[0].Addr, Ago: 10 * time.Minute},
			{Client: clientN(3), Endpoint: set[2].Addr, Ago: 10 * time.Minute},
		}
		if got := old.Entries(); !slices.Equal(got, want) {
			t.Errorf("the entries are %v; want %v", got, want)
		}

		now := successor(t, old, 10)
		if got := now.Entries(); !slices.Equal(got, want) {
			t.Errorf("after the restart they are %v; want %v", got, want)
		}
		time.Sleep(10 * time.Minute) // the time of client 2 is over now
		p = sticky(now, set, time.Hour)
		expect(t, "client 3 after the restart", connect(t, p, clientN(3)), "2 hit")
		expect(t, "client 1 after the restart", connect(t, p, clientN(1)), "0 hit")
		expect(t, "client 2 after the restart", connect(t, p, clientN(2)), "0 new")
	})
}

func TestALowerLimitForgetsTheOldest(t *testing.T) {
	set := balancertest.Endpoints(5)
	old := balancer.NewAffinity(10)
	p := sticky(old, set, timeout)
	for i := range 5 {
		connect(t, p, clientN(i))
	}
	now := successor(t, old, 2)
	if now.Len() != 2 || now.Evicted() != 0 {
		t.Errorf("%d are remembered, %d evicted", now.Len(), now.Evicted())
	}
	p = sticky(now, set, timeout)
	expect(t, "the last client", connect(t, p, clientN(4)), "4 hit")
	expect(t, "the last but one", connect(t, p, clientN(3)), "3 hit")
	expect(t, "the first", connect(t, p, clientN(0)), "0 new")
}

// A connection of an earlier process is counted where it is, and says nothing of where its
// client is to go.
func TestAnAdoptedConnectionIsCountedThroughAffinity(t *testing.T) {
	for _, name := range []string{"least-connections", "p2c", "latency"} {
		t.Run(name, func(t *testing.T) {
			set := balancertest.Endpoints(2)
			a, b := set[0].Addr, set[1].Addr
			memory := balancer.NewAffinity(10)
			p := withAffinity{newPolicy(t, name), memory}.Picker(set)
			var adopted []balancer.Pick
			for i := range 8 {
				pick := p.(balancer.Chooser).Choose(balancer.Endpoint{Addr: set[i%7/6].Addr}) // seven to the first
				if pick.Done == nil {
					t.Fatal("it is not counted")
				}
				if pick.Answered != nil {
					pick.Answered(time.Millisecond)
				}
				adopted = append(adopted, pick)
			}
			if memory.Len() != 0 {
				t.Errorf("%d clients are bound", memory.Len())
			}
			if got := open(t, p, 5); len(got[b]) != 5 {
				t.Errorf("the endpoint with seven connections got %d of 5 more", len(got[a]))
			}
			end(adopted)
			if got := open(t, p, 3); len(got[a]) != 3 {
				t.Errorf("the endpoint whose connections have ended got %d of 3, want all", len(got[a]))
			}
		})
	}
}

func TestAnAdoptedConnectionToAnEndpointThatIsGone(t *testing.T) {
	for _, name := range balancer.Names() {
		p := withAffinity{newPolicy(t, name), balancer.NewAffinity(10)}.Picker(balancertest.Endpoints(3)[:2])
		gone := balancertest.Endpoints(3)[2]
		if pick := p.(balancer.Chooser).Choose(gone); pick.Endpoint != gone || pick.Done != nil || pick.Answered != nil {
			t.Errorf("%s: %+v", name, pick)
		}
	}
}

func BenchmarkAffinityEntries(b *testing.B) {
	const clients = 65_536
	entries := make([]balancer.AffinityEntry, clients)
	for i := range entries {
		client := binary.BigEndian.AppendUint32(nil, 10<<24+uint32(i))
		entries[i] = balancer.AffinityEntry{Client: netip.AddrFrom4([4]byte(client)), Endpoint: balancertest.Endpoints(1)[0].Addr}
	}
	full := balancer.NewAffinity(clients)
	full.Restore(entries)
	measure := func(name string, do func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				do()
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
	measure("entries", func() { full.Entries() })
	measure("restore", func() { balancer.NewAffinity(clients).Restore(entries) })
}

// cpu is what the process has used, which others on the machine do not make longer.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
