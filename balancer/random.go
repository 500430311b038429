package balancer

// random picks by weight among the endpoints that were not tried, and remembers
// nothing. Use it where the order of round-robin could fall into step with the
// clients, or where many nodes with little traffic each share the endpoints.
type random struct{}

func (random) Picker(endpoints []Endpoint) Picker { return &randomPicker{newWheel(endpoints)} }

type randomPicker struct{ wheel }

func (p *randomPicker) Pick(r Request) (Pick, error) { return p.pickRandom(r) }

func (w *wheel) pickRandom(r Request) (Pick, error) {
	i := w.draw(r.Tried, -1)
	if i < 0 {
		return Pick{}, ErrNoEndpoints
	}
	return Pick{Endpoint: w.endpoints[i]}, nil
}
