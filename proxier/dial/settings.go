package dial

import "time"

// Retry says how an endpoint is found that can be connected to.
type Retry struct {
	Attempts int           // at most so many, each to another endpoint; 1 to 64
	Timeout  time.Duration // for one attempt, at most Total
	Total    time.Duration // for all of them, more than 0
	On       Failures      // what another attempt follows on
	// Hedge is how long an attempt may take before another one begins beside it, to
	// another endpoint; the first one that succeeds is taken. 0: none does. Clients
	// with session affinity are not hedged: a slow answer would bind them to another
	// endpoint.
	Hedge  time.Duration
	Budget Budget
}

// Failures are kinds of failures.
type Failures uint8

// The kinds.
const (
	Refused     Failures = 1 << iota // the endpoint's host refused the connection
	Unreachable                      // there is no way to the endpoint
	Timeout                          // no answer came in time
	ResetEarly                       // it was reset or closed before the endpoint had sent anything
)

// Connect are all failures to connect: no byte of the client was sent yet.
const Connect = Refused | Unreachable | Timeout

// Budget bounds the attempts after the first of a connection, so that an outage is
// not multiplied by its own retries. The zero Budget allows none.
type Budget struct {
	Share     float64 // so many for each connection, 0 to 10
	PerSecond float64 // and so many a second whatever the connections
}
