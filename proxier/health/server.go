package health

import (
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// requestTimeout is for a client to send its request, and to read the answer.
	requestTimeout = 10 * time.Second
	idleTimeout    = time.Minute
	headerBytes    = 8 << 10
)

// connectionLimit is how many clients a health server talks to at a time. Load
// balancers and probes need few; without a limit, clients that send nothing could
// use up the open files that connections to Services need.
const connectionLimit = 128

// Server returns a server of small answers to anybody: slow clients are hung up
// on, and those beyond connectionLimit at once.
func Server(handler http.Handler) *http.Server {
	return limited(handler, &connections{limit: connectionLimit})
}

func limited(handler http.Handler, c *connections) *http.Server {
	return &http.Server{
		Handler:     handler,
		ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerBytes, ConnState: c.count,
		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * with 200 whatever the health
	}
}

// connections counts the open connections of one or more servers.
type connections struct {
	limit int64
	open  atomic.Int64
}

func (c *connections) count(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if c.open.Add(1) > c.limit {
			conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	}
}
