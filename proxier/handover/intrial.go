package handover

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// InTrial says whether this process is a program that Try tries. A variable of the
// environment tells, which the first call of this package removes.
//
// Such a process looks at what it received and takes it in as if it would serve, but
// touches nothing that others see: it neither reads nor writes, nor does it set any
// option of sockets, which are shared with the process that serves.
func InTrial() bool { return inherited() != nil }

// Good tells the process that tries this one that all is well. It needs a Parcel that
// was received, and can be said once; then the process has to end with status 0.
func Good() error {
	t := inherited()
	if t == nil {
		return errors.New("this process is not in a trial")
	}
	return t.good()
}

// trial is this process' side of Try.
type trial struct {
	mu       sync.Mutex
	conn     *net.UnixConn // nil when all is said
	err      error         // why there was none at all
	received bool
}

// inherited is nil if this process is not in a trial. One whose variable means nothing
// is, and fails: it must never take itself for one that serves.
var inherited = sync.OnceValue(func() *trial {
	conn, err := takeSocket(trialEnv)
	if conn == nil && err == nil {
		return nil
	}
	return &trial{conn: conn, err: err}
})

func (t *trial) receive() (*Parcel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.received {
		return nil, t.err
	}
	t.received = true
	p, err := Receive(t.conn) // Try sees to it that this ends
	if err != nil {
		t.err = fmt.Errorf("trial: %w", err)
	}
	return p, t.err
}

func (t *trial) good() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.err != nil:
		return t.err
	case !t.received:
		return errors.New("trial: nothing can be good before it was received")
	case t.conn == nil:
		return errors.New("trial: it was said already")
	}
	_, err := t.conn.Write([]byte{goodByte})
	t.conn.Close()
	t.conn = nil
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	return nil
}

const goodByte = 'G'
