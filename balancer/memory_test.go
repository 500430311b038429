package balancer

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// endpointN returns n endpoints from that number on.
func endpointsFrom(first, n int) []Endpoint {
	all := make([]Endpoint, n)
	for i := range all {
		ip := binary.BigEndian.AppendUint32(nil, uint32(10<<24+first+i))
		addr, _ := netip.AddrFromSlice(ip)
		all[i].Addr = netip.AddrPortFrom(addr, 80)
	}
	return all
}

func TestMemoryKeepsAnEndpointThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, all := newMemory(newLoad), endpointsFrom(0, 2)
		before := m.of(all)
		m.of(all[:1])
		time.Sleep(memoryTime - 1)
		if after := m.of(all); after[1] != before[1] || after[0] != before[0] {
			t.Error("an endpoint that was gone for less than the time came back as another one")
		}
		time.Sleep(10 * memoryTime)
		if after := m.of(all); after[1] != before[1] {
			t.Error("an endpoint that is there was forgotten")
		}
	})
}

func TestMemoryForgetsTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, all := newMemory(newLoad), endpointsFrom(0, 3)
		before := m.of(all)
		end := before[2].begin(all[2]).Done
		m.of(all[:1])
		time.Sleep(memoryTime)
		m.of(all[:1])
		if len(m.known) != 2 {
			t.Errorf("%d endpoints are known, want the one that is there and the one with a connection", len(m.known))
		}
		if after := m.of(all); after[1] == before[1] || after[2] != before[2] {
			t.Error("came back: the idle one the same, or the busy one as another")
		}
		m.of(all[:1])
		end(Outcome{})
		time.Sleep(memoryTime)
		m.of(all[:1])
		if len(m.known) != 1 {
			t.Errorf("%d endpoints are known after the last connection ended, want 1", len(m.known))
		}
	})
}

func TestMemoryHasALimit(t *testing.T) {
	const set = 1000
	m := newMemory(newLoad)
	busy := m.of(endpointsFrom(0, 1))[0]
	busy.begin(Endpoint{})
	for i := range 20 {
		m.of(endpointsFrom(1+i*set, set))
		if most := set + memoryLimit; len(m.known) > most {
			t.Fatalf("%d endpoints are known, want %d at most", len(m.known), most)
		}
	}
	if m.of(endpointsFrom(0, 1))[0] != busy {
		t.Error("the busy one was forgotten before the idle ones")
	}
	for _, s := range m.of(endpointsFrom(1_000_000, 2*memoryLimit)) {
		s.begin(Endpoint{})
	}
	if m.of(nil); len(m.known) > memoryLimit {
		t.Errorf("%d busy endpoints that are gone are known, want %d at most", len(m.known), memoryLimit)
	}
}
