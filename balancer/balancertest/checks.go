package balancertest

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

var (
	errRefused = errors.New("connection refused")

	refused   = balancer.Outcome{Err: errRefused, Connect: time.Millisecond}
	connected = balancer.Outcome{Connect: time.Millisecond}
)

func checkEmpty(newPolicy func() balancer.Policy) error {
	p := newPolicy()
	for _, set := range [][]balancer.Endpoint{nil, {}} {
		picker := p.Picker(set)
		for _, tried := range [][]netip.AddrPort{nil, addrs(Endpoints(1))} {
			if err := wantNone(picker, balancer.Request{Client: client(1), Tried: tried}); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSingle(newPolicy func() balancer.Policy) error {
	for i := range 2 { // one of each family
		set := endpointsFrom(i, 1)
		picker := newPolicy().Picker(set)
		for range 3 {
			pick, err := pickFrom(picker, set, balancer.Request{Client: client(1)})
			if err != nil {
				return err
			}
			finish(pick, connected)
		}
		if err := wantNone(picker, balancer.Request{Client: client(1), Tried: addrs(set)}); err != nil {
			return err
		}
	}
	return nil
}

// checkInside asks the same request many times, for many clients, for a client
// that is not known, and never ends what it began.
func checkInside(newPolicy func() balancer.Policy) error {
	for _, n := range []int{1, 2, 3, 10, 1000} {
		set := Endpoints(n)
		picker := newPolicy().Picker(slices.Clone(set))
		for i := range 1000 {
			for _, from := range []netip.Addr{client(1), client(i), {}} {
				if _, err := pickFrom(picker, set, balancer.Request{Client: from}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkExhaust is one connection that is refused everywhere, again and again:
// even a policy that remembers failures may not withhold an endpoint.
func checkExhaust(newPolicy func() balancer.Policy) error {
	for _, n := range []int{1, 2, 3, 10, 100} {
		set := Endpoints(n)
		picker := newPolicy().Picker(set)
		for i := range 20 {
			if err := exhaust(picker, set, client(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func exhaust(picker balancer.Picker, set []balancer.Endpoint, from netip.Addr) error {
	request := balancer.Request{Client: from}
	for range set {
		pick, err := pickFrom(picker, set, request)
		if err != nil {
			return err
		}
		finish(pick, refused)
		request.Tried = append(request.Tried, pick.Endpoint.Addr)
	}
	return wantNone(picker, request)
}

// checkForeignTried retries after a change of the endpoints: what was tried may
// be gone.
func checkForeignTried(newPolicy func() balancer.Policy) error {
	set, gone := endpointsFrom(0, 3), endpointsFrom(100, 5)
	picker := newPolicy().Picker(set)
	tried := append(addrs(gone), set[1].Addr)
	for range 100 {
		if _, err := pickFrom(picker, set, balancer.Request{Client: client(1), Tried: tried}); err != nil {
			return err
		}
	}
	return wantNone(picker, balancer.Request{Client: client(1), Tried: append(tried, addrs(set)...)})
}

// checkArguments gives away slices with something behind their end, where an
// append would write.
func checkArguments(newPolicy func() balancer.Policy) error {
	behind := Endpoints(10)
	given := slices.Clone(behind)
	triedBehind := addrs(Endpoints(4))
	tried := slices.Clone(triedBehind)

	p := newPolicy()
	pickers := []balancer.Picker{p.Picker(given[:7]), p.Picker(given[2:5])}
	for i := range 200 {
		for _, picker := range pickers {
			pick, err := picker.Pick(balancer.Request{Client: client(i), Tried: tried[:i%3]})
			if err != nil {
				return err
			}
			finish(pick, []balancer.Outcome{connected, refused}[i%2])
		}
	}
	if !slices.Equal(given, behind) {
		return fmt.Errorf("the endpoints given to Picker were changed to %v", given)
	}
	if !slices.Equal(tried, triedBehind) {
		return fmt.Errorf("Request.Tried was changed to %v", tried)
	}
	return nil
}

// checkWeights has weights that nobody should give, and asks for every endpoint:
// the lightest next to the heaviest too. The sum of them is more than an int.
func checkWeights(newPolicy func() balancer.Policy) error {
	for _, weights := range [][]int{
		{0}, {-1, -1}, {1, 100_000}, {0, -1, 1, 2, 3},
		{math.MinInt, math.MaxInt, 0, math.MaxInt, math.MinInt, math.MaxInt, 7},
	} {
		set := weighted(weights...)
		picker := newPolicy().Picker(set)
		for i := range 200 {
			if err := exhaust(picker, set, client(i)); err != nil {
				return fmt.Errorf("weights %v: %w", weights, err)
			}
		}
	}
	return nil
}

// checkSnapshot uses three Pickers of one Policy by turns.
func checkSnapshot(newPolicy func() balancer.Policy) error {
	p := newPolicy()
	sets := [][]balancer.Endpoint{endpointsFrom(0, 5), endpointsFrom(3, 5), endpointsFrom(100, 1), {}}
	var pickers []balancer.Picker
	for _, set := range sets {
		pickers = append(pickers, p.Picker(set))
	}
	for i := range 20 {
		for j, picker := range pickers {
			if err := exhaust(picker, sets[j], client(i)); err != nil {
				return fmt.Errorf("picker %d of %d: %w", j+1, len(pickers), err)
			}
		}
	}
	return nil
}

// checkChooser makes the choice for those Pickers that allow it, between picks
// of their own, and ends only some of the connections.
func checkChooser(newPolicy func() balancer.Policy) error {
	set := Endpoints(10)
	chooser, ok := newPolicy().Picker(set).(balancer.Chooser)
	if !ok {
		return nil
	}
	for i := range 200 {
		e := set[i%3]
		pick := chooser.Choose(e)
		if pick.Endpoint != e {
			return fmt.Errorf("was told to choose %+v, and chose %+v", e, pick.Endpoint)
		}
		if i%2 == 0 {
			finish(pick, []balancer.Outcome{connected, refused}[i%4/2])
		}
		if err := exhaust(chooser, set, client(i)); err != nil {
			return fmt.Errorf("after a choice not its own: %w", err)
		}
	}
	return nil
}
