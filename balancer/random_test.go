package balancer

import (
	"net/netip"
	"testing"
)

func TestRandomIsUniformAmongTheUntried(t *testing.T) {
	const picks = 30_000
	all := endpoints("a", "b", "c", "d", "e")
	tried := []netip.AddrPort{all[1].Addr, all[4].Addr}
	got := map[string]int{}
	for _, pod := range pods(t, random{}.Picker(all), picks, Request{Tried: tried}) {
		got[pod]++
	}
	// 10,000 each; one standard deviation is 82.
	for _, pod := range []string{"a", "c", "d"} {
		if got[pod] < 9_400 || got[pod] > 10_600 {
			t.Errorf("%s was picked %d times of %d, want about a third", pod, got[pod], picks)
		}
	}
}
