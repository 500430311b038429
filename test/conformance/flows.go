package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// recovery is how long a proxy may take until a client that keeps its port gets on.
const recovery = time.Minute

// A flow is a client that keeps its port, as many do for ever. Its socket is not
// connected, so that it sees where an answer comes from.
type flow struct {
	from
	addr   netip.AddrPort
	conn   *net.UDPConn
	number int // of the latest datagram
}

// flow opens one, from a new port.
func (f from) flow(addr netip.AddrPort) (*flow, error) {
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
	}
	fl, err := &flow{from: f, addr: addr}, error(nil)
	f.Do(func() { fl.conn, err = net.ListenUDP(network, nil) })
	return fl, err
}

func (f *flow) String() string {
	return fmt.Sprintf("%s from %s, port %d", f.addr, f.name, f.conn.LocalAddr().(*net.UDPAddr).Port)
}

// ask sends one datagram and returns the answer to it, which must come from where
// it was sent to. If none comes in time the error is [os.ErrDeadlineExceeded].
func (f *flow) ask(path string, patience time.Duration) (string, error) {
	f.number++
	f.conn.SetDeadline(time.Now().Add(patience))
	_, err := f.conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %d", path, f.number), f.addr)
	if err != nil && !isFiltered(err) {
		return "", err
	}
	buf := make([]byte, 512)
	for {
		n, source, err := f.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return "", err
		}
		if source != f.addr {
			return "", fmt.Errorf("%s was asked, and %s answers", f.addr, source)
		}
		answer, number, _ := strings.Cut(string(buf[:n]), " ")
		if number == fmt.Sprint(f.number) { // and not an answer that comes late
			return answer, nil
		}
	}
}

// isFiltered tells whether netfilter has dropped a datagram: it lets processes of
// its own node know, and only them.
func isFiltered(err error) bool { return errors.Is(err, syscall.EPERM) }

// flows are clients that keep their ports.
type flows []*flow

// flows are one from each client to each address. They end with the case.
func (w *World) flows(who []from, addrs []netip.AddrPort) (fs flows) {
	w.t.Helper()
	for _, f := range who {
		for _, addr := range addrs {
			fl, err := f.flow(addr)
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { fl.conn.Close() })
			fs = append(fs, fl)
		}
	}
	return fs
}

// atOnce calls do for all at the same time.
func (fs flows) atOnce(do func(*flow) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(fs))
	for i, f := range fs {
		all.Go(func() {
			if err := do(f); err != nil {
				errs[i] = fmt.Errorf("%s: %w", f, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// goOn has all ask again and again while during runs, and no datagram may be lost.
// The reference loses some: when it deletes a conntrack entry, an answer that is on
// its way arrives with the address of the pod that sent it.
func (fs flows) goOn(w *World, during func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- fs.atOnce(func(f *flow) error {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if _, err := f.ask("/", oneDatagram); err != nil && !w.proxy.Reference() {
					return err
				}
				<-tick.C
			}
			return nil
		})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}()
	during()
}

// move waits until all are answered by a server, and by none but this one from
// then on. Usher may not lose a single datagram; the reference has its time.
func (fs flows) move(w *World, to string) {
	w.t.Helper()
	fs.moveAfter(w, 0, to)
}

// moveAfter is move for flows that may lose so many datagrams each before.
func (fs flows) moveAfter(w *World, datagrams int, to string) {
	w.t.Helper()
	if w.proxy.Reference() {
		datagrams = int(recovery / time.Millisecond)
	}
	deadline := time.Now().Add(recovery)
	const unanswered = 3 * time.Second // on a busy machine, too
	var mu sync.Mutex
	lost, most := 0, 0
	err := fs.atOnce(func(f *flow) error {
		n := 0
		for ; ; n++ {
			answer, err := f.ask("/", unanswered)
			if err == nil && answer == to {
				break
			}
			if err == nil {
				err = fmt.Errorf("%s answers", answer)
			} else if !errors.Is(err, os.ErrDeadlineExceeded) && !w.proxy.Reference() {
				return err
			}
			if n == datagrams || time.Now().After(deadline) {
				return fmt.Errorf("datagram %d is not answered by %s: %w", n+1, to, err)
			}
			time.Sleep(time.Millisecond)
		}
		mu.Lock()
		lost, most = lost+n, max(most, n)
		mu.Unlock()
		for range 3 {
			if answer, err := f.ask("/", oneDatagram); err != nil || answer != to {
				return fmt.Errorf("after %s had answered: %q, %v", to, answer, err)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if lost > 0 {
		w.t.Logf("%d flows are with %s: %d datagrams did not reach it, of one flow at most %d", len(fs), to, lost, most)
	}
}

// stop waits until none is answered any more.
func (fs flows) stop(w *World) {
	w.t.Helper()
	netns.EventuallyWithin(w.t, recovery, "clients that keep their ports are not answered any more", func() error {
		return fs.atOnce(func(f *flow) error {
			answer, err := f.ask("/", impatience)
			if err == nil {
				return fmt.Errorf("%s answers", answer)
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			return nil
		})
	})
}
