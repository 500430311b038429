package proxier

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A session that could not be begun is one that has ended.
func TestPicksOfSessionsThatAreNotBegun(t *testing.T) {
	nowhere := netip.MustParseAddrPort("127.255.255.255:53") // a broadcast address: EACCES
	p := &script{order: []netip.AddrPort{nowhere, packetEcho(t)}}
	s := newScene(t, p.is, func(c *Config) { c.Service.UDP.Stream = 200 * time.Millisecond })
	s.set(datagramsTo("dns", vip, p.order...)...)
	s.answered(vip)
	s.eventually("all have ended", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		for addr, n := range p.lasts {
			if n != 0 {
				return fmt.Errorf("%d last of %s", n, addr)
			}
		}
		return nil
	})
}

// An early end that no other endpoint makes up for is no success.
func TestAReplayThatFindsNobodyIsNoSuccess(t *testing.T) {
	s := newScene(t)
	s.set(with(asking("retry-on=reset-early", "passive-health=off"), serveTCP(t, crash))...)
	s.settled(1, 1)
	wantReset(t, speak(t, vip))
	s.idle()
	if n, _ := s.metric("usher_retry_success_total"); n != 0 {
		t.Errorf("%g are counted", n)
	}
}
