package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// A take-over is a conversation of two processes by a unix socket, of which the one that
// takes over says the first word:
//
//	R  ready: go on              ->
//	                             <-  P and a Parcel, the trial: the state without files
//	R  that can be gone on with  ->
//	                             <-  P and a Parcel, the early one: what rests already
//	R  likewise                  ->
//	                             <-  P and the Parcel, when everything rests
//	M  mine                      ->
//
// Each may say E and why it does not go on, instead, and hang up.
const (
	ready    = 'R'
	parcel   = 'P'
	mine     = 'M'
	refusal  = 'E'
	maxWhy   = 1 << 10 // bytes of a reason
	whyDelay = time.Second
)

// patience is how long the one that gives waits.
type patience struct {
	prove time.Duration // for the trial
	carry time.Duration // for each of the Parcels: while everything rests nobody is served
}

var usual = patience{prove: 4 * time.Second, carry: 2 * time.Second}

// Give gives everything to the process at the other end, after that has said that it can go on
// with the trial. rest brings everything to rest: it calls early with what rests first, and carry
// when all does, and returns an error of either. With nil the other process has it; with an
// error it never will, whatever becomes of it. The connection is of no use afterwards.
func Give(conn *net.UnixConn, trial Parcel, rest func(early, carry func(Parcel) error) error) error {
	return usual.give(conn, trial, rest)
}

func (wait patience) give(conn *net.UnixConn, trial Parcel, rest func(early, carry func(Parcel) error) error) error {
	conn.SetDeadline(time.Now().Add(wait.prove))
	err := await(conn, ready)
	if err == nil {
		err = offer(conn, trial, ready)
	}
	if err != nil {
		err = fmt.Errorf("the process that was to take over has not proved itself: %w", err)
	} else {
		err = rest(func(p Parcel) error { return wait.bringEarly(conn, p) }, func(p Parcel) error { return wait.bring(conn, p) })
	}
	if err != nil {
		refuse(conn, err)
	}
	return err
}

// bringEarly sends what rests already.
func (wait patience) bringEarly(conn *net.UnixConn, p Parcel) error {
	conn.SetDeadline(time.Now().Add(wait.carry))
	err := offer(conn, p, ready)
	if err != nil {
		err = fmt.Errorf("the process that was to take over has not done so: %w", err)
	}
	return err
}

// bring sends a Parcel and waits for the word that makes it the other's. The moment in which
// the kernel takes that word decides, once for both: it takes none for a socket that was shut
// down for reading, and what it took before can still be read (unix(7)).
func (wait patience) bring(conn *net.UnixConn, p Parcel) error {
	conn.SetDeadline(time.Now().Add(wait.carry))
	err := offer(conn, p, mine)
	if err == nil {
		return nil
	}
	conn.CloseRead()
	conn.SetDeadline(time.Now().Add(whyDelay))
	last := await(conn, mine)
	if last == nil {
		return nil
	}
	if errors.As(last, new(said)) {
		err = last
	}
	return fmt.Errorf("the process that was to take over has not done so: %w", err)
}

// offer sends a Parcel, and waits for the word that the other one has for it.
func offer(conn *net.UnixConn, p Parcel, want byte) error {
	err := speak(conn, parcel)
	if err == nil {
		err = Send(conn, p)
	}
	if err == nil {
		err = await(conn, want)
	}
	return err
}

// Take asks the process at the other end for everything, and takes it if nothing is wrong with
// it: with a trial, which has no files, then with what rests early, then with the rest. The three
// functions say what is; they own the files, also when they return an error. The deadline of conn
// is that of both processes; it is to be later than the other one's patience. After an error
// everything goes on there.
func Take(conn *net.UnixConn, trial, early, rest func(Parcel) error) error {
	for _, check := range []func(Parcel) error{trial, early, rest} {
		if err := next(conn, check); err != nil {
			return err
		}
	}
	if err := speak(conn, mine); err != nil {
		return fmt.Errorf("the process that serves has not waited any longer, and goes on: %w", err)
	}
	return nil
}

// next asks for a Parcel that is good, and says what is wrong with another one.
func next(conn *net.UnixConn, check func(Parcel) error) error {
	err := speak(conn, ready)
	if err != nil {
		return gone(conn, err)
	}
	if err = await(conn, parcel); err != nil {
		return err
	}
	p, err := Receive(conn)
	if err == nil {
		err = check(*p)
	}
	if err != nil {
		refuse(conn, err)
	}
	return err
}

// gone is why the other end has hung up, if it has said so.
func gone(conn *net.UnixConn, err error) error {
	if last := await(conn, parcel); errors.As(last, new(said)) {
		return last
	}
	return err
}

func speak(conn *net.UnixConn, word byte) error {
	_, err := conn.Write([]byte{word})
	return err
}

// said is why the other process does not go on.
type said string

func (s said) Error() string { return string(s) }

// await waits for a word. An error is also what the other says instead.
func await(conn *net.UnixConn, want byte) error {
	var word [1]byte
	_, err := conn.Read(word[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it gives no answer: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("it has hung up: %w", err)
	case err != nil:
		return err
	case word[0] == want:
		return nil
	case word[0] != refusal:
		return fmt.Errorf("it says %q instead of %q", word[0], want)
	}
	why, _ := io.ReadAll(io.LimitReader(conn, maxWhy)) // as much as comes
	return said(observe.Printable(strings.ToValidUTF8(string(why), "?")))
}

// refuse says why it ends, to somebody who may not listen any more.
func refuse(conn *net.UnixConn, why error) {
	conn.SetWriteDeadline(time.Now().Add(whyDelay))
	text := why.Error()
	conn.Write(append([]byte{refusal}, text[:min(len(text), maxWhy)]...))
	conn.CloseWrite()
}
