package balancer

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

func endpoints(names ...string) []Endpoint {
	var all []Endpoint
	for i, name := range names {
		addr := netip.MustParseAddrPort(fmt.Sprintf("10.1.0.%d:80", i+1))
		all = append(all, Endpoint{Addr: addr, Pod: name})
	}
	return all
}

func pods(t *testing.T, p Picker, n int, r Request) []string {
	t.Helper()
	var got []string
	for range n {
		pick, err := p.Pick(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, pick.Endpoint.Pod)
	}
	return got
}

func TestRoundRobinGoesOnAfterAChange(t *testing.T) {
	policy := new(roundRobin) // turn 0: a known start
	before := pods(t, policy.Picker(endpoints("a", "b", "c")), 2, Request{})
	after := pods(t, policy.Picker(endpoints("a", "b", "c", "d")), 3, Request{})
	if got, want := append(before, after...), []string{"b", "c", "d", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
}

func TestRoundRobinTakesTurnsExactlyUnderConcurrency(t *testing.T) {
	const workers, rounds = 8, 300
	all := endpoints("a", "b", "c")
	picker := new(roundRobin).Picker(all)
	counts := make(chan map[string]int, workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			mine := map[string]int{}
			for range rounds {
				pick, _ := picker.Pick(Request{})
				mine[pick.Endpoint.Pod]++
			}
			counts <- mine
		})
	}
	wg.Wait()
	total := map[string]int{}
	for range workers {
		for pod, n := range <-counts {
			total[pod] += n
		}
	}
	for _, e := range all {
		if want := workers * rounds / len(all); total[e.Pod] != want {
			t.Errorf("%s was picked %d times, want exactly %d: two picks shared a turn", e.Pod, total[e.Pod], want)
		}
	}
}

func TestRoundRobinRetryTakesNoTurn(t *testing.T) {
	all := endpoints("dead", "alive")
	picker := new(roundRobin).Picker(all)
	first := map[string]int{}
	for range 100 {
		pick := pods(t, picker, 1, Request{})[0]
		first[pick]++
		if pick == "dead" {
			pods(t, picker, 1, Request{Tried: []netip.AddrPort{all[0].Addr}})
		}
	}
	if first["dead"] != 50 {
		t.Errorf("%d of 100 connections began with the dead endpoint, want 50", first["dead"])
	}
}

// weighted returns an endpoint for each weight, named by letters.
func weighted(weights ...int) []Endpoint {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	all := endpoints(names[:len(weights)]...)
	for i, w := range weights {
		all[i].Weight = w
	}
	return all
}

// At every moment, from any turn on, each endpoint has had what its weight says,
// but for a few turns.
func TestRoundRobinIsEvenByWeightInTheShortRun(t *testing.T) {
	for _, all := range [][]Endpoint{weighted(5, 1, 1), weighted(1, 2, 3, 4, 5, 6, 7, 8), weighted(100_000, 1, 99_999, 50_000)} {
		picker := newRoundRobin().Picker(all)
		sum, got, worst := 0, map[string]int{}, 0.0
		for _, e := range all {
			sum += e.Weight
		}
		for turn := 1; turn <= 100_000; turn++ {
			got[pods(t, picker, 1, Request{})[0]]++
			for _, e := range all {
				worst = max(worst, math.Abs(float64(got[e.Pod])-float64(turn)*float64(e.Weight)/float64(sum)))
			}
		}
		t.Logf("%d endpoints: never more than %.1f turns off", len(all), worst)
		if worst > 6 {
			t.Errorf("an endpoint of %v was %.1f turns off its part", all, worst)
		}
	}
}

func TestRoundRobinDoesNotGiveTheHeavyOneItsTurnsInARow(t *testing.T) {
	picker := newRoundRobin().Picker(weighted(2, 1, 1))
	row := 0
	for _, pod := range pods(t, picker, 10_000, Request{}) {
		if pod != "a" {
			row = 0
			continue
		}
		if row++; row > 2 {
			t.Fatal("half of the weight had three turns in a row")
		}
	}
}
