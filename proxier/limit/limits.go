package limit

import "time"

// Limits bound the connections of one Service port. A zero (or less) in any of them
// means that nothing but the limits of the whole process counts.
type Limits struct {
	Connections int // in all
	PerEndpoint int // to each endpoint
	PerClient   int // from each client's IP address
	Rate        Rate
	// Wait is for how long a connection waits for its turn when a limit is reached;
	// zero: it is reset at once.
	Wait time.Duration
}

// Rate is how many connections may begin, by a token bucket: it has Burst tokens,
// each connection takes one, and PerSecond of them come back.
type Rate struct {
	PerSecond float64 // 0: any number; else one in an hour to a billion, or the nearest of these
	Burst     int     // at once, 1 to a million, or the nearest of these
}

// bound tells whether a connection has to be counted before it may enter.
func (l *Limits) bound() bool {
	return l.Connections > 0 || l.PerClient > 0 || l.Rate.PerSecond > 0
}

// exceeded is the error of one of these limits.
func (l *Limits) exceeded(kind Kind) *Exceeded {
	e := &Exceeded{Limit: kind}
	switch kind {
	case Connections:
		e.Max = float64(l.Connections)
	case PerClient:
		e.Max = float64(l.PerClient)
	case PerEndpoint:
		e.Max = float64(l.PerEndpoint)
	case ConnectionRate:
		e.Max = l.Rate.PerSecond
	}
	return e
}
