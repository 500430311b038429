package proxier

import (
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
)

func TestHowANewcomerGrows(t *testing.T) {
	a, b, c := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.0.0.3:80")
	settings := &annotation.Settings{SlowStart: 10 * time.Second}
	start := time.Now()
	n := &newcomers{}
	for _, step := range []struct {
		after time.Duration
		there []netip.AddrPort
		want  []int
		next  time.Duration
	}{
		{0, []netip.AddrPort{a, b}, []int{10, 10}, 0}, // there is nobody else
		{0, []netip.AddrPort{a, b, c}, []int{10, 10, 1}, time.Second},
		{999 * time.Millisecond, []netip.AddrPort{a, b, c}, []int{10, 10, 1}, time.Second},
		{time.Second, []netip.AddrPort{a, b, c}, []int{10, 10, 2}, time.Second},
		{5 * time.Second, []netip.AddrPort{a, c}, []int{10, 6}, time.Second},
		{9 * time.Second, []netip.AddrPort{a, b, c}, []int{10, 1, 10}, time.Second}, // b has come back
		{18 * time.Second, []netip.AddrPort{a, b, c}, []int{10, 10, 10}, 0},
		{time.Hour, []netip.AddrPort{a, b, c}, []int{10, 10, 10}, 0},
	} {
		var endpoints []balancer.Endpoint
		for _, addr := range step.there {
			endpoints = append(endpoints, balancer.Endpoint{Addr: addr})
		}
		weighed, next := n.weigh(endpoints, settings, start.Add(step.after))
		for i, e := range weighed {
			if e.Addr != step.there[i] || e.Weight != step.want[i] {
				t.Errorf("after %s %s weighs %d, want %d", step.after, e.Addr, e.Weight, step.want[i])
			}
		}
		if next != step.next {
			t.Errorf("after %s it is to be asked again in %s, want %s", step.after, next, step.next)
		}
	}
	if weighed, next := n.weigh([]balancer.Endpoint{{Addr: a}}, &annotation.Settings{}, start); weighed[0].Weight != 0 || next != 0 {
		t.Errorf("if nothing is asked for, it weighs %d, again in %s", weighed[0].Weight, next)
	}
}
