package balancertest

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// policyFunc makes a Policy of a function, pickFunc a Picker.
type policyFunc func([]balancer.Endpoint) balancer.Picker

func (f policyFunc) Picker(e []balancer.Endpoint) balancer.Picker { return f(e) }

type pickFunc func(balancer.Request) (balancer.Pick, error)

func (f pickFunc) Pick(r balancer.Request) (balancer.Pick, error) { return f(r) }

// stateless returns a factory of policies whose pickers only look at the set
// and the request.
func stateless(pick func([]balancer.Endpoint, balancer.Request) (balancer.Pick, error)) func() balancer.Policy {
	return func() balancer.Policy {
		return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
			return pickFunc(func(r balancer.Request) (balancer.Pick, error) { return pick(set, r) })
		})
	}
}

// good is a correct policy that the broken ones differ from in one thing: it
// picks at random.
func good(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	left := untried(set, r.Tried)
	if len(left) == 0 {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	return balancer.Pick{Endpoint: left[rand.IntN(len(left))]}, nil
}

func untried(set []balancer.Endpoint, tried []netip.AddrPort) []balancer.Endpoint {
	return slices.DeleteFunc(slices.Clone(set), func(e balancer.Endpoint) bool {
		return slices.Contains(tried, e.Addr)
	})
}

// broken are policies that each break one promise, and the check that has to
// find it.
var broken = []struct {
	name   string
	policy func() balancer.Policy
	found  string
}{
	{"own error on an empty set", stateless(ownError), "an empty set has no endpoint"},
	{"ignores Tried", stateless(ignoresTried), "one endpoint"},
	{"makes an endpoint up", stateless(madeUp), "picks are endpoints of the set"},
	{"drops the pod's name", stateless(anonymous), "picks are endpoints of the set"},
	{"needs to know the client", stateless(needsClient), "picks are endpoints of the set"},
	{"IPv4 only", stateless(ipv4Only), "one endpoint"},
	{"gives up after three tries", stateless(threeTries), "each endpoint is a retry target once"},
	{"counts Tried instead of looking", stateless(countsTried), "foreign addresses in Tried are harmless"},
	{"sorts the given slice", sorts, "arguments are left alone"},
	{"appends to the given slice", appends, "arguments are left alone"},
	{"appends to Tried", stateless(appendsTried), "arguments are left alone"},
	{"one set for all Pickers", oneSet, "an old Picker keeps its set"},
	{"one set for all connections", oneSet, "concurrent picks during changes"},
	{"ejects what failed", ejects, "each endpoint is a retry target once"},
	{"Done ejects for ever", ejects, "Done at any time from any goroutine"},
	{"no weight, no connection", stateless(noWeight), "weights of any value"},
	{"only the heaviest", stateless(heaviest), "weights of any value"},
	{"ejects what answers slowly", ejectsSlow, "Answered at any time from any goroutine, or never"},
	{"waits for every answer", awaitsAnswers, "Answered at any time from any goroutine, or never"},
	{"remembers every endpoint", remembersAll, "what is remembered of endpoints has a bound"},
	{"chooses by itself", choosesItself, "a Chooser is content with any choice"},
	{"a choice uses the endpoint up", choosesOnce, "a Chooser is content with any choice"},
}

func ownError(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if len(set) == 0 {
		return balancer.Pick{}, errors.New("nothing here")
	}
	return good(set, r)
}

func ignoresTried(set []balancer.Endpoint, _ balancer.Request) (balancer.Pick, error) {
	return good(set, balancer.Request{})
}

func madeUp(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if len(set) == 1000 {
		return balancer.Pick{Endpoint: Endpoints(1001)[1000]}, nil
	}
	return good(set, r)
}

func anonymous(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	pick, err := good(set, r)
	pick.Endpoint.Pod = ""
	return pick, err
}

func needsClient(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if !r.Client.IsValid() {
		return balancer.Pick{}, errors.New("who is there?")
	}
	return good(set, r)
}

func ipv4Only(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	v6 := func(e balancer.Endpoint) bool { return e.Addr.Addr().Is6() }
	return good(slices.DeleteFunc(slices.Clone(set), v6), r)
}

func threeTries(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if len(r.Tried) == 3 {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	return good(set, r)
}

func countsTried(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if len(r.Tried) >= len(set) {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	return good(set, r)
}

func appendsTried(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if len(set) == 0 {
		return good(set, r)
	}
	_ = append(r.Tried, netip.AddrPort{})
	return good(set, r)
}

// blocking allows one connection at a time per Picker.
func blocking() balancer.Policy {
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		var busy sync.Mutex
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			pick, err := good(set, r)
			if err == nil {
				busy.Lock()
				pick.Done = func(balancer.Outcome) { busy.Unlock() }
			}
			return pick, err
		})
	})
}

func sorts() balancer.Policy {
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		slices.Reverse(set)
		return stateless(good)().Picker(set)
	})
}

func appends() balancer.Policy {
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		_ = append(set, balancer.Endpoint{})
		return stateless(good)().Picker(set)
	})
}

// oneSet keeps the endpoints in the Policy, for all its Pickers.
func oneSet() balancer.Policy {
	var current atomic.Pointer[[]balancer.Endpoint]
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		current.Store(&set)
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) { return good(*current.Load(), r) })
	})
}

// ejects never picks an endpoint again that failed once.
func ejects() balancer.Policy {
	var mu sync.Mutex
	var failed []netip.AddrPort
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			mu.Lock()
			defer mu.Unlock()
			pick, err := good(untried(set, failed), r)
			pick.Done = func(o balancer.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				if o.Err != nil {
					failed = append(failed, pick.Endpoint.Addr)
				}
			}
			return pick, err
		})
	})
}

func noWeight(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	if len(set) < 2 || set[0].Weight == 0 && set[1].Weight == 0 {
		return good(set, r) // no weights at all
	}
	return good(slices.DeleteFunc(slices.Clone(set), func(e balancer.Endpoint) bool { return e.Weight < 1 }), r)
}

// heaviest picks among the heaviest of all endpoints, of those tried as well.
func heaviest(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	most := math.MinInt
	for _, e := range set {
		most = max(most, e.Weight)
	}
	return good(slices.DeleteFunc(slices.Clone(set), func(e balancer.Endpoint) bool { return e.Weight < most }), r)
}

// ejectsSlow never picks an endpoint again that once took longer than a second.
func ejectsSlow() balancer.Policy {
	var mu sync.Mutex
	var slow []netip.AddrPort
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			mu.Lock()
			defer mu.Unlock()
			pick, err := good(untried(set, slow), r)
			pick.Answered = func(took time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if took > time.Second {
					slow = append(slow, pick.Endpoint.Addr)
				}
			}
			return pick, err
		})
	})
}

// awaitsAnswers lets no more than a hundred connections be without an answer.
func awaitsAnswers() balancer.Policy {
	var waiting atomic.Int64
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			if waiting.Load() > 100 {
				return balancer.Pick{}, balancer.ErrNoEndpoints
			}
			pick, err := good(set, r)
			waiting.Add(1)
			pick.Answered = func(time.Duration) { waiting.Add(-1) }
			return pick, err
		})
	})
}

func remembersAll() balancer.Policy {
	known := map[netip.AddrPort]bool{}
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		for _, e := range set {
			known[e.Addr] = true
		}
		return stateless(good)().Picker(set)
	})
}

// byWeight picks at random with a share that a function makes of the weight.
func byWeight(share func(weight int) int) func() balancer.Policy {
	return stateless(func(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
		left, sum := untried(set, r.Tried), 0
		for _, e := range left {
			sum += share(e.Weight)
		}
		n := rand.IntN(sum)
		for _, e := range left {
			if n -= share(e.Weight); n < 0 {
				return balancer.Pick{Endpoint: e}, nil
			}
		}
		return balancer.Pick{}, balancer.ErrNoEndpoints
	})
}

func atLeast1(weight int) int { return max(weight, 1) }

// weighsActive picks by connections per weight only, and so the heaviest of the
// idle.
func weighsActive() balancer.Policy {
	active := map[netip.AddrPort]int{}
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			left := untried(set, r.Tried)
			e := slices.MinFunc(left, func(a, b balancer.Endpoint) int {
				return cmp.Compare((active[a.Addr]+1)*atLeast1(b.Weight), (active[b.Addr]+1)*atLeast1(a.Weight))
			})
			active[e.Addr]++
			return balancer.Pick{Endpoint: e, Done: func(balancer.Outcome) { active[e.Addr]-- }}, nil
		})
	})
}

// leastActive counts connections and does not know weights, unless all are idle.
func leastActive() balancer.Policy {
	active, weighted := map[netip.AddrPort]int{}, byWeight(atLeast1)()
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		random := weighted.Picker(set)
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			pick, err := random.Pick(r)
			for _, e := range set {
				if active[e.Addr] < active[pick.Endpoint.Addr] {
					pick.Endpoint = e
				}
			}
			addr := pick.Endpoint.Addr
			active[addr]++
			pick.Done = func(balancer.Outcome) { active[addr]-- }
			return pick, err
		})
	})
}

// firstWeights keeps the weights of its first Picker.
func firstWeights() balancer.Policy {
	var first balancer.Picker
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		picker := byWeight(atLeast1)().Picker(set)
		if first == nil {
			first = picker
		}
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			pick, err := first.Pick(r)
			for _, e := range set {
				if e.Addr == pick.Endpoint.Addr {
					pick.Endpoint = e
				}
			}
			return pick, err
		})
	})
}

// retriesEvenly knows weights, but not in a retry.
func retriesEvenly() balancer.Policy {
	weighted := byWeight(atLeast1)()
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		random := weighted.Picker(set)
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			if len(r.Tried) > 0 {
				return good(set, r)
			}
			return random.Pick(r)
		})
	})
}

// chooserFunc is a good Picker with a Choose of its own.
type chooserFunc struct {
	balancer.Picker
	choose func(balancer.Endpoint) balancer.Pick
}

func (c chooserFunc) Choose(e balancer.Endpoint) balancer.Pick { return c.choose(e) }

func choosesItself() balancer.Policy {
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		picker := stateless(good)().Picker(set)
		return chooserFunc{picker, func(balancer.Endpoint) balancer.Pick {
			pick, _ := picker.Pick(balancer.Request{})
			return pick
		}}
	})
}

// choosesOnce does not pick what was chosen before.
func choosesOnce() balancer.Policy {
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		var chosen []netip.AddrPort
		picker := pickFunc(func(r balancer.Request) (balancer.Pick, error) { return good(untried(set, chosen), r) })
		return chooserFunc{picker, func(e balancer.Endpoint) balancer.Pick {
			chosen = append(chosen, e.Addr)
			return balancer.Pick{Endpoint: e}
		}}
	})
}
