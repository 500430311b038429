package balancer

import "slices"

// first picks the first endpoint that was not tried: one serves all, and the
// others stand by. Use it for a primary with backups, or for a server that
// tolerates one writer only. Its order is that of the endpoints given, which for
// a Service is by address: it says nothing of which pod means to be the primary.
// It knows no weights.
type first struct{}

func (first) Picker(endpoints []Endpoint) Picker { return firstPicker(endpoints) }

type firstPicker []Endpoint

func (p firstPicker) Pick(r Request) (Pick, error) {
	for i := range p {
		if !slices.Contains(r.Tried, p[i].Addr) {
			return Pick{Endpoint: p[i]}, nil
		}
	}
	return Pick{}, ErrNoEndpoints
}
