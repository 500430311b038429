package balancer

// p2c is the power of two choices: of two endpoints drawn by weight the one with
// fewer connections for its weight. Use it where connections last differently
// long: it is nearly as even as least-connections, costs the same for any number
// of endpoints, and nodes that know nothing of each other do not all run to the
// same endpoint.
//
// Michael Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".
type p2c struct{ memory[*load] }

func newP2C() *p2c { return &p2c{newMemory(newLoad)} }

func (p *p2c) Picker(endpoints []Endpoint) Picker {
	return &p2cPicker{newCounted(endpoints, &p.memory)}
}

type p2cPicker struct{ counted[*load] }

func (p *p2cPicker) Pick(r Request) (Pick, error) {
	i := p.draw(r.Tried, -1)
	if i >= 0 {
		if other := p.draw(r.Tried, i); other >= 0 && p.prefers(other, i) {
			i = other
		}
	}
	return p.begin(i)
}

// prefers tells whether endpoint i is the better one. Between two that are idle
// the draw has decided, by weight: else the heavier one would get everything
// where there is one connection at a time.
func (p *p2cPicker) prefers(i, drawn int) bool {
	a, b := p.states[i].active.Load(), p.states[drawn].active.Load()
	if a == 0 && b == 0 {
		return false
	}
	return less(a, p.width(i), b, p.width(drawn))
}
