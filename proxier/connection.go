package proxier

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/relay"
)

// connection is one client's connection, from accept to its record. Its
// goroutine owns both sockets.
type connection struct {
	*listener
	client *net.TCPConn
	record *observe.Record
	// What admit found out.
	set           Set // the endpoints to choose from
	proxyProtocol byte
	keepSource    bool // the endpoint is promised the client's address

	mu      sync.Mutex
	aborted observe.Reason // why it was aborted, empty if it was not
	cancel  func()         // ends the dialling, while it is in that phase
	relay   *relay.Relay   // once both sides are connected
}

// serve is the life of a connection. Whatever happens in it, the sockets are
// closed and there is one record.
func (c *connection) serve() {
	defer c.end()
	if reason, err := c.admit(); reason != observe.OK {
		c.refuse(reason, err)
		return
	}
	backend, done := c.connect()
	if backend == nil {
		return
	}
	defer done(balancer.Outcome{Connect: c.record.Connect})
	if err := c.announce(backend); err != nil {
		backend.Close()
		c.refuse(observe.BackendReset, err)
		return
	}
	c.run(backend)
}

func (c *connection) announce(backend *net.TCPConn) error {
	if c.proxyProtocol == 0 {
		return nil
	}
	return announce(backend, c.proxyProtocol, c.record.Client, c.record.VIP)
}

// admit finds out what the client has dialled, and whether it may.
func (c *connection) admit() (observe.Reason, error) {
	r, current := c.record, c.current.Load()
	port := current.port
	r.Family, r.Balancer = int(port.Family), c.balancerName
	r.Client = addrPort(c.client.RemoteAddr())
	r.Listener = addrPort(c.client.LocalAddr())
	client := c.clients.Load().kind(r.Client.Addr())
	r.ClientKind = string(client)
	vip, err := c.capture.destination(c.client)
	if err != nil {
		return observe.DirectAccess, err
	}
	r.VIP = vip
	frontend, ok := current.frontend(vip)
	if !ok {
		return observe.DirectAccess, nil
	}
	r.VIPKind = string(frontend.Kind)
	if c.set == "" {
		c.set = frontend.Policy.set(client.here())
	}
	c.proxyProtocol, c.keepSource = port.ProxyProtocol, frontend.promisesSource()
	r.Set, r.Eligible = string(c.set), len(port.eligible(c.set).Endpoints)
	if !port.admits(r.Client.Addr(), frontend) {
		return observe.SourceDenied, nil
	}
	if r.GlobalActive > c.connections.limit() {
		return observe.LimitGlobal, nil
	}
	return observe.OK, nil
}

// connect finds an endpoint that can be connected to. It returns nil after
// having refused the client if there is none.
func (c *connection) connect() (*net.TCPConn, func(balancer.Outcome)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !c.setCancel(cancel) {
		c.refuse(observe.Shutdown, nil)
		return nil, nil
	}
	backend, pick, err := c.dialer.dial(ctx, c.picker, c.sourceOf, c.record)
	c.setCancel(nil)
	if err != nil {
		reason := outcome(c.record.Attempts, err)
		if aborted := c.abortReason(); aborted != "" {
			reason = aborted
		}
		c.refuse(reason, err)
		return nil, nil
	}
	r := c.record
	r.Backend = pick.Endpoint
	r.LocalPort = addrPort(backend.LocalAddr()).Port()
	r.Connect = r.Attempts[len(r.Attempts)-1].Duration
	done := pick.Done
	if done == nil {
		done = func(balancer.Outcome) {}
	}
	return backend, done
}

func (c *connection) picker() balancer.Picker { return c.current.Load().pickers[c.set] }

// run relays until both sides have closed.
func (c *connection) run(backend *net.TCPConn) {
	relay := relay.New(c.client, backend, c.halfClose)
	c.setRelay(relay)
	res := relay.Run()
	r := c.record
	r.BytesIn, r.BytesOut = res.In, res.Out
	r.Reason, r.Errno = res.Reason, errnoName(res.Errno)
	r.ClientClose, r.ClientCloseAt, r.SentClient = res.Client.Close, c.sinceStart(res.Client.At), res.Client.Sent
	r.BackendClose, r.BackendCloseAt, r.SentBackend = res.Backend.Close, c.sinceStart(res.Backend.At), res.Backend.Sent
}

func (c *connection) sinceStart(t time.Time) time.Duration {
	if t.IsZero() {
		return -1
	}
	return t.Sub(c.record.Start)
}

// refuse ends the connection with a reset: a FIN would look like an empty
// answer.
func (c *connection) refuse(reason observe.Reason, err error) {
	c.record.Reason, c.record.Errno = reason, errnoName(err)
	c.client.SetLinger(0)
	c.record.SentClient = observe.CloseRST
}

// end closes what is left and tells the record.
func (c *connection) end() {
	if panicked := recover(); panicked != nil {
		c.log.WithField("id", c.record.ID).Errorf("a connection of %s failed inside usher, please report this: %v\n%s",
			c.key, panicked, debug.Stack())
		c.refuse(observe.InternalError, nil)
	}
	c.client.Close()
	c.observer.Closed(c.shared.metrics, c.record)
	c.active.Add(-1)
	c.connections.remove(c) // last: who waits for it then finds nothing left
}

// abort ends the connection from outside, at once and with resets.
func (c *connection) abort(reason observe.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted != "" {
		return
	}
	c.aborted = reason
	if c.cancel != nil {
		c.cancel()
	}
	if c.relay != nil {
		c.relay.Abort(reason)
	}
}

func (c *connection) abortReason() observe.Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aborted
}

// setCancel says how to end the phase that begins; false if it must not begin.
func (c *connection) setCancel(cancel func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = cancel
	return c.aborted == ""
}

func (c *connection) setRelay(r *relay.Relay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.relay = r
	if c.aborted != "" {
		r.Abort(c.aborted)
	}
}

func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}
