package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// schedule is a connection that was drawn at random: what the client does, and
// what each backend does that it may get.
type schedule struct {
	request  []byte
	closes   bool // the client, after its request, before the answer
	backends []script
	givesUp  bool // after the last backend, else it is asked again
}

// script is one backend: it reads so much of the request, then ends early or
// answers.
type script struct {
	reads  int
	end    observe.Close // how it ends early, CloseNone if it answers
	answer []byte
}

func draw(r *rand.Rand) schedule {
	var s schedule
	switch r.IntN(4) {
	case 0: // the backend speaks first
	case 1:
		s.request = random(1 + r.IntN(smallHold+100))
	case 2:
		s.request = random(HoldLimit - 2 + r.IntN(5))
	case 3:
		s.request = random(1 + r.IntN(5*HoldLimit))
	}
	s.closes, s.givesUp = r.IntN(2) == 0, r.IntN(4) == 0
	for range r.IntN(4) {
		end := []observe.Close{observe.CloseRST, observe.CloseFIN}[r.IntN(2)]
		s.backends = append(s.backends, script{reads: r.IntN(len(s.request) + 1), end: end})
	}
	if !s.givesUp || len(s.backends) == 0 {
		s.backends = append(s.backends, script{end: observe.CloseNone, reads: r.IntN(len(s.request) + 1), answer: random(1 + r.IntN(300_000))})
	}
	return s
}

// story is what the parties have seen.
type story struct {
	result  Result
	early   int      // so many backends have ended early
	got     [][]byte // by each backend
	answer  []byte   // what the client got
	lastErr error    // of the client
}

// play runs the schedule; change may prepare its relay.
func (s schedule) play(t *testing.T, change ...func(*Relay)) (o story) {
	scene := newSceneWith(t, settings(time.Minute, true), change...)
	client, r := scene.client, scene.relay
	o.got = make([][]byte, len(s.backends))
	var peers sync.WaitGroup
	act := func(i int, peer *net.TCPConn) {
		peers.Go(func() { o.got[i] = s.backends[i].play(peer, len(s.request)) })
	}

	peers.Go(func() {
		client.SetDeadline(time.Now().Add(patience))
		_, writeErr := client.Write(s.request)
		if s.closes {
			client.CloseWrite()
		}
		var readErr error
		o.answer, readErr = io.ReadAll(client)
		o.lastErr = errors.Join(writeErr, readErr) // whichever is told of a reset
		client.Close()
	})
	act(0, scene.backend)
	for {
		select {
		case <-scene.early:
			if o.early++; o.early == len(s.backends) {
				r.GiveUp()
				continue
			}
			peer, theirs := pair(t)
			act(o.early, peer)
			r.Replay(adopt(t, theirs))
		case o.result = <-scene.result:
			peers.Wait()
			return o
		}
	}
}

func (b script) play(c *net.TCPConn, request int) []byte {
	c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, request)
	n, err := io.ReadFull(c, got[:b.reads])
	if err != nil {
		c.Close()
		return got[:n]
	}
	switch b.end {
	case observe.CloseRST:
		reset(c)
	case observe.CloseFIN:
		c.CloseWrite()
		m, _ := io.ReadFull(c, got[n:]) // until it is replaced, or the client's end
		n += m
		c.Close()
	default:
		var reading sync.WaitGroup
		reading.Go(func() {
			m, _ := io.ReadFull(c, got[n:])
			n += m
		})
		c.Write(b.answer)
		reading.Wait()
		c.Close()
	}
	return got[:n]
}

// judge compares what happened with what may happen.
func (s schedule) judge(o story) error {
	last := min(o.early, len(s.backends)-1) // who had the last word
	for i, got := range o.got[:last+1] {
		if !bytes.HasPrefix(s.request, got) || len(got) < s.backends[i].reads {
			return fmt.Errorf("backend %d got %d bytes that are not a beginning of the request", i, len(got))
		}
	}
	b, res := s.backends[last], o.result
	if o.early <= last && b.end != observe.CloseNone && !s.final(b) {
		return fmt.Errorf("backend %d ended by %s before it had sent anything, and there was no replay", last, b.end)
	}
	if !bytes.Equal(o.answer, b.answer) || res.Out != int64(len(b.answer)) {
		return fmt.Errorf("the client got %d bytes, the result says %d, backend %d has sent %d", len(o.answer), res.Out, last, len(b.answer))
	}
	if isReset := errors.Is(o.lastErr, syscall.ECONNRESET); isReset != (b.end == observe.CloseRST) || !isReset && o.lastErr != nil {
		return fmt.Errorf("the client got %v, backend %d ended by %s", o.lastErr, last, b.end)
	}
	if b.end == observe.CloseRST {
		if res.Reason != observe.BackendReset {
			return fmt.Errorf("reason %s after a reset", res.Reason)
		}
		return nil
	}
	if res.Reason != observe.OK || res.In != int64(len(s.request)) || len(o.got[last]) != len(s.request) {
		return fmt.Errorf("reason %s, backend %d got %d bytes of %d, the result says %d", res.Reason, last, len(o.got[last]), len(s.request), res.In)
	}
	return nil
}

// final tells whether the early end of b may be its last word: more was sent
// than is held, or the client has closed.
func (s schedule) final(b script) bool {
	return len(s.request) > HoldLimit || s.closes && b.end == observe.CloseFIN
}

func TestRandomSchedules(t *testing.T) {
	const schedules, workers = 600, 6
	seed := rand.Uint64()
	for w := range workers {
		t.Run(fmt.Sprint(w), func(t *testing.T) {
			t.Parallel()
			for i := w; i < schedules; i += workers {
				s := draw(rand.New(rand.NewPCG(seed, uint64(i))))
				if err := s.judge(s.play(t)); err != nil {
					t.Fatalf("seed %d, schedule %d: %v\n%v", seed, i, err, s)
				}
			}
		})
	}
}

// An Abort ends every connection at once, whatever it is doing.
func TestAbortAtRandomTimes(t *testing.T) {
	random, aborted := rand.New(rand.NewPCG(rand.Uint64(), 0)), 0
	for range 300 {
		s := draw(random)
		var at time.Time
		timer := make(chan *time.Timer, 1)
		o := s.play(t, func(r *Relay) {
			timer <- time.AfterFunc(time.Duration(random.IntN(1000))*time.Microsecond, func() {
				at = time.Now()
				r.Abort(observe.Shutdown)
			})
		})
		if (<-timer).Stop() || o.result.Reason != observe.Shutdown {
			continue // it was over before
		}
		aborted++
		if took := time.Since(at); took > patience/10 {
			t.Errorf("it took %v to end", took)
		}
	}
	if aborted == 0 {
		t.Error("every connection was over before its Abort")
	}
}

func (s schedule) String() string {
	text := fmt.Sprintf("the client sends %d bytes, closes=%v, gives up=%v", len(s.request), s.closes, s.givesUp)
	for _, b := range s.backends {
		text += fmt.Sprintf("; a backend reads %d and ends by %s after %d", b.reads, b.end, len(b.answer))
	}
	return text
}
