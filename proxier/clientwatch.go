package proxier

import (
	"net"
	"sync"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/relay"
)

// clientLook is how often somebody looks whether the client of a connection that
// nothing is read from is still there.
const clientLook = 250 * time.Millisecond

// clientWatch notices that a client has gone which waits for its turn or for an
// endpoint: its place is for another one. A FIN alone is no sign of that, the client
// may still want its answer.
type clientWatch struct {
	client *net.TCPConn
	gone   func() // called once, if it has

	mu    sync.Mutex
	timer *time.Timer // nil once it is over
	left  error       // how the client has gone
}

func watchClient(client *net.TCPConn, gone func()) *clientWatch {
	w := &clientWatch{client: client, gone: gone}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(clientLook, w.look)
	return w
}

func (w *clientWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return
	}
	if w.left = relay.Ended(w.client); w.left == nil {
		w.timer.Reset(clientLook)
		return
	}
	w.timer = nil
	w.gone()
}

// stop ends the watch and says how the client has gone, nil if it has not.
func (w *clientWatch) stop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	return w.left
}

// clientLeft is why a phase has ended that nobody waits for any more.
type clientLeft struct{ error }

func (l *clientLeft) Unwrap() error { return l.error }

func (l *clientLeft) reason() observe.Reason {
	switch relay.CloseOf(l.error) {
	case observe.CloseTimeout:
		return observe.ClientGone
	case observe.CloseLocal:
		return observe.SocketDestroyed
	}
	return observe.ClientAbort
}
