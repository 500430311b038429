package limit

import (
	"fmt"
	"time"
)

// Kind is a limit that keeps connections out.
type Kind string

// The limits.
const (
	Connections    Kind = "connections" // of the Service port
	PerClient      Kind = "client"
	PerEndpoint    Kind = "endpoint"
	ConnectionRate Kind = "rate"
	Process        Kind = "process"
)

// Exceeded is the error of a connection that a limit keeps out.
type Exceeded struct {
	Limit  Kind
	Max    float64       // what it allows: connections, or connections per second
	Waited time.Duration // for room, in vain
}

func (e *Exceeded) Error() string {
	text := fmt.Sprintf(map[Kind]string{
		Connections:    "the Service port has its %g connections",
		PerClient:      "the client has its %g connections",
		PerEndpoint:    "each endpoint has its %g connections",
		ConnectionRate: "more than %g connections a second begin",
		Process:        "usher has its %g connections (its limit of open files allows no more)",
	}[e.Limit], e.Max)
	if e.Waited > 0 {
		text += fmt.Sprintf(", after a wait of %s", e.Waited.Round(time.Millisecond))
	}
	return text
}
