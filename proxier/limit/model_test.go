package limit

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// model is what a Gate promises, in the simplest words: after anything has happened,
// the first of those waiting that nothing keeps out is admitted, again and again.
type model struct {
	limits  Limits
	room    Room
	now     time.Duration
	tokens  float64
	in      []*modelGuest
	waiting []*modelGuest
}

type modelGuest struct {
	client   int
	counted  bool // against Limits.PerClient
	deadline time.Duration
	state    string // as in lab.want
}

func (m *model) obstacle(client int) string {
	mine := 0
	for _, g := range m.in {
		if g.client == client && g.counted {
			mine++
		}
	}
	l := m.limits
	switch {
	case l.PerClient > 0 && mine >= l.PerClient:
		return "c"
	case l.Connections > 0 && len(m.in) >= l.Connections:
		return "l"
	case l.Rate.PerSecond > 0 && m.tokens < 1-1e-6:
		return "r"
	case len(m.in) >= m.room.Connections:
		return "p"
	}
	return ""
}

func (m *model) settle() {
	for {
		i := slices.IndexFunc(m.waiting, func(g *modelGuest) bool { return m.obstacle(g.client) == "" })
		if i < 0 {
			return
		}
		m.admit(m.waiting[i])
		m.waiting = slices.Delete(m.waiting, i, i+1)
	}
}

func (m *model) admit(g *modelGuest) {
	g.state = "i"
	m.tokens--
	m.in = append(m.in, g)
}

func (m *model) come(client int) *modelGuest {
	m.settle()
	g := &modelGuest{client: client, deadline: m.now + m.limits.Wait}
	g.state = m.obstacle(client)
	g.counted = m.limits.Connections > 0 || m.limits.PerClient > 0 || m.limits.Rate.PerSecond > 0
	ahead, mine := 0, 0
	for _, other := range m.waiting {
		if m.obstacle(other.client) != "c" {
			ahead++
		}
		if other.client == client {
			mine++
		}
	}
	rate := m.limits.Rate.PerSecond
	switch {
	case g.state == "":
		m.admit(g)
	case m.limits.Wait == 0:
	case rate > 0 && (float64(ahead+1)-m.tokens)/rate > m.limits.Wait.Seconds()+1e-9:
		g.state = "r"
	case m.limits.PerClient > 0 && mine >= m.limits.PerClient:
		g.state = "c"
	case len(m.waiting) >= m.room.Waiting:
	default:
		g.state, g.counted = "w", true
		m.waiting = append(m.waiting, g)
	}
	return g
}

// restore lets a connection of an earlier process in.
func (m *model) restore(client int) *modelGuest {
	l := m.limits
	g := &modelGuest{client: client, state: "i", counted: l.Connections > 0 || l.PerClient > 0 || l.Rate.PerSecond > 0}
	m.in = append(m.in, g)
	return g
}

func (m *model) leave(g *modelGuest) {
	m.in = slices.DeleteFunc(m.in, func(o *modelGuest) bool { return o == g })
	m.settle()
}

func (m *model) giveUp(g *modelGuest, state string) {
	g.state = state
	m.waiting = slices.DeleteFunc(m.waiting, func(o *modelGuest) bool { return o == g })
}

func (m *model) set(l Limits) {
	missing := 0.0
	if old := m.limits.Rate; old.PerSecond > 0 {
		missing = min(float64(old.Burst)-m.tokens, float64(l.Rate.Burst))
	}
	m.limits, m.tokens = l, float64(l.Rate.Burst)-missing
	m.settle()
}

// pass goes from one thing that happens to the next.
func (m *model) pass(d time.Duration) {
	for end := m.now + d; m.now < end; {
		next := end
		for _, g := range m.waiting {
			next = min(next, g.deadline)
		}
		if rate := m.limits.Rate.PerSecond; rate > 0 && m.tokens < 1-1e-6 {
			token := time.Duration(math.Round((1-m.tokens)/rate*1000)) * time.Millisecond
			next = min(next, m.now+token)
		}
		m.tokens = min(m.tokens+m.limits.Rate.PerSecond*(next-m.now).Seconds(), float64(m.limits.Rate.Burst))
		m.now = next
		for _, g := range slices.Clone(m.waiting) {
			if g.deadline <= m.now {
				m.giveUp(g, m.obstacle(g.client))
			}
		}
		m.settle()
	}
}

// Whatever happens, in whatever order: the Gate does what the model does. It never
// admits too many, it keeps nobody waiting while there is room, it admits in the
// order in which they came, and keeps nothing of those that have left. All happens at
// whole 10 ms, tokens come at whole 2 ms, and each wait ends at odd 5 ms.
func TestARandomHistory(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		randomHistory(t, uint64(seed))
	}
}

func randomHistory(t *testing.T, seed uint64) {
	bubble(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 5))
		l, m := newLab(t, Limits{}), &model{room: plenty()}
		var guests []*guest
		var models []*modelGuest
		history := ""
		one := func(state string) (int, bool) { // one that is in this state
			var list []int
			for i, g := range models {
				if g.state == state {
					list = append(list, i)
				}
			}
			if len(list) == 0 {
				return 0, false
			}
			return list[r.IntN(len(list))], true
		}
		for step := range 300 {
			switch n := r.IntN(100); {
			case n < 40:
				client := r.IntN(3)
				history += fmt.Sprint(" come:", client)
				guests, models = append(guests, l.come(client)), append(models, m.come(client))
			case n < 44:
				client := r.IntN(3)
				history += fmt.Sprint(" restore:", client)
				guests, models = append(guests, l.restore(client)), append(models, m.restore(client))
			case n < 65:
				if i, ok := one("i"); ok {
					history += fmt.Sprint(" leave:", i)
					models[i].state = "left"
					m.leave(models[i])
					l.end(guests[i])
				}
			case n < 72:
				if i, ok := one("w"); ok {
					history += fmt.Sprint(" giveup:", i)
					m.giveUp(models[i], "x")
					guests[i].giveUp(errors.New("given up"))
					synctest.Wait()
				}
			case n < 77:
				limits := randomLimits(r)
				history += fmt.Sprintf(" set:%+v", limits)
				m.set(limits)
				l.Set(limits)
				synctest.Wait()
			case n < 82:
				room := Room{Connections: 1 + r.IntN(8), Waiting: r.IntN(8)}
				history += fmt.Sprintf(" room:%+v", room)
				m.room = room
				l.setRoom(room)
				m.settle()
				l.whole.Changed()
				synctest.Wait()
			default:
				d := time.Duration(1+r.IntN(30)) * 10 * time.Millisecond
				history += fmt.Sprint(" pass:", d)
				m.pass(d)
				l.pass(d)
			}
			for i, g := range guests {
				if want := models[i].state; want == "left" {
					continue
				} else if got := l.state(g); got != want {
					t.Fatalf("seed %d, step %d: guest %d is %q, want %q:%s", seed, step, i, got, want, history)
				}
			}
			if l.Len() != len(m.in) || l.Waiting() != len(m.waiting) {
				t.Fatalf("seed %d: %d are in and %d wait, want %d and %d", seed, l.Len(), l.Waiting(), len(m.in), len(m.waiting))
			}
		}
		l.setRoom(plenty())
		l.Set(Limits{})
		l.whole.Changed()
		synctest.Wait()
		for i, g := range guests {
			if g.in() && models[i].state != "left" {
				l.end(g)
			}
		}
		l.empty()
	})
}

func randomLimits(r *rand.Rand) Limits {
	odd := 5 * time.Millisecond
	return Limits{
		Connections: r.IntN(6),
		PerClient:   r.IntN(4),
		Rate:        Rate{PerSecond: []float64{0, 10, 50}[r.IntN(3)], Burst: 1 + r.IntN(3)},
		Wait:        []time.Duration{0, 150*time.Millisecond + odd, time.Second + odd, 10*time.Second + odd}[r.IntN(4)],
	}
}

// Several Gates share a process, and nobody waits while there is room.
func TestARandomHistoryOfAProcess(t *testing.T) {
	for seed := range uint64(50) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 6))
			first := newLab(t, Limits{Wait: time.Hour})
			gates := []*lab{first, first.another(Limits{Wait: time.Hour}), first.another(Limits{Connections: 2, Wait: time.Hour}), first.another(Limits{})}
			guests := make([][]*guest, len(gates))
			for range 300 {
				i := r.IntN(len(gates))
				l := gates[i]
				switch n := r.IntN(100); {
				case n < 50:
					guests[i] = append(guests[i], l.come(r.IntN(3)))
				case n < 60:
					first.roomFor(1 + r.IntN(8))
					first.whole.Changed()
					synctest.Wait()
				default:
					if n := len(guests[i]); n > 0 {
						k := r.IntN(n)
						if g := guests[i][k]; g.in() {
							l.end(g)
						} else {
							g.giveUp(errors.New("given up"))
							synctest.Wait()
						}
						guests[i] = slices.Delete(guests[i], k, k+1)
					}
				}
				total := 0
				for i, l := range gates {
					guests[i] = slices.DeleteFunc(guests[i], func(g *guest) bool { return !g.in() && !g.waiting() })
					total += l.Len()
					if n := slices.IndexFunc(guests[i], (*guest).waiting); n >= 0 {
						if slices.ContainsFunc(guests[i][n:], (*guest).in) {
							t.Fatalf("seed %d: somebody was overtaken at gate %d", seed, i)
						}
						if free := first.room.Load().Connections - first.whole.Len(); free > 0 && !(i == 2 && l.Len() >= 2) {
							t.Fatalf("seed %d: somebody waits at gate %d while the process has room for %d", seed, i, free)
						}
					}
				}
				if total != first.whole.Len() || gates[2].Len() > 2 {
					t.Fatalf("seed %d: %d are in, the process has %d, the third gate %d", seed, total, first.whole.Len(), gates[2].Len())
				}
			}
			first.setRoom(plenty())
			first.whole.Changed()
			for i, l := range gates {
				for len(guests[i]) > 0 {
					synctest.Wait()
					l.end(guests[i][0])
					guests[i] = guests[i][1:]
				}
				if i == len(gates)-1 {
					l.empty()
				}
			}
		})
	}
}

// Endpoints that are taken, waited for, left and limited at random.
func TestARandomHistoryOfEndpoints(t *testing.T) {
	for seed := range uint64(50) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			limits := Limits{PerEndpoint: 2, Wait: time.Hour}
			l := newLab(t, limits)
			type stay struct {
				at    netip.AddrPort
				leave func()
			}
			var in []stay
			var line []*seeker
			wants := map[*seeker][]int{}
			count := func(i int) (n int) {
				for _, s := range in {
					if s.at == endpoint(i) {
						n++
					}
				}
				return n
			}
			for range 300 {
				switch n := r.IntN(100); {
				case n < 30:
					i := r.IntN(4)
					if leave, ok := l.Endpoint(endpoint(i)); ok {
						in = append(in, stay{endpoint(i), leave})
					} else if count(i) < limits.PerEndpoint {
						t.Fatalf("seed %d: endpoint %d is full with %d", seed, i, count(i))
					}
				case n < 33:
					i := r.IntN(4)
					in = append(in, stay{endpoint(i), l.RestoreEndpoint(endpoint(i))})
				case n < 50:
					full := r.Perm(4)[:1+r.IntN(3)]
					s := l.seek(l.come(1), full...)
					line, wants[s] = append(line, s), full
				case n < 55:
					limits.PerEndpoint = 1 + r.IntN(3)
					l.Set(limits)
				case n < 58 && len(line) > 0:
					line[r.IntN(len(line))].giveUp(errors.New("given up"))
				case len(in) > 0:
					i := r.IntN(len(in))
					in[i].leave()
					in = slices.Delete(in, i, i+1)
				}
				synctest.Wait()
				for i, s := range line {
					if !s.in() {
						continue
					}
					in = append(in, stay{s.got, s.leave})
					for _, earlier := range line[:i] {
						if earlier.waiting() && slices.ContainsFunc(wants[earlier], func(i int) bool { return endpoint(i) == s.got }) {
							t.Fatalf("seed %d: somebody who waits for %s was overtaken", seed, s.got)
						}
					}
				}
				line = slices.DeleteFunc(line, func(s *seeker) bool { return !s.waiting() })
				for _, s := range line {
					for _, i := range wants[s] {
						if count(i) < limits.PerEndpoint {
							t.Fatalf("seed %d: somebody waits for endpoint %d, which has %d of %d", seed, i, count(i), limits.PerEndpoint)
						}
					}
				}
			}
			for len(in) > 0 {
				in[0].leave()
				in = in[1:]
				synctest.Wait()
				for i, s := range line {
					if s.in() {
						in = append(in, stay{s.got, s.leave})
						line = slices.Delete(line, i, i+1)
						break
					}
				}
			}
			if len(line) > 0 || l.endpoints.n != nil || l.endpoints.queue.Len() > 0 || l.Waiting() > 0 {
				t.Errorf("seed %d: left are %d, %v, %d, %d", seed, len(line), l.endpoints.n, l.endpoints.queue.Len(), l.Waiting())
			}
		})
	}
}
