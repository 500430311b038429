package systemd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is what clients do all the time while something is done to usher. Backends are the
// pod's: port 7 sends back what comes (TCP and UDP), port 19 sends once the client has ended.
type load struct {
	*scene
	end     chan struct{} // closed when no more is to be begun
	stop    func()        // closes it, once or more
	clients sync.WaitGroup
	moved   atomic.Int64 // bytes that came back and were right

	mu      sync.Mutex
	began   int // new connections
	failed  []error
	broken  []error // of those that last
	longest time.Duration
	peers   map[netip.AddrPort]bool // of UDP, as the pod sees them
	asked   int                     // datagrams
	replied int
}

// What lasts of each kind, and how fast it goes.
const (
	streams  = 4
	piece    = 16 << 10
	interval = 20 * time.Millisecond
)

// startLoad has a Service lead to the backends, and clients use it.
func startLoad(s *scene) *load {
	l := &load{scene: s, end: make(chan struct{}), peers: map[netip.AddrPort]bool{}}
	l.stop = sync.OnceFunc(func() { close(l.end) })
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Log(s.Journal("usher"))
		}
		l.stop()
		l.clients.Wait()
	})
	s.Push("/etc/usher/manifests/load.yaml", fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: load}
spec:
  clusterIP: 10.96.0.20
  ports: [{name: echo, port: 7}, {name: late, port: 19}, {name: datagrams, port: 7, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: load-1, labels: {kubernetes.io/service-name: load}}
addressType: IPv4
ports: [{name: echo, port: 7}, {name: late, port: 19}, {name: datagrams, port: 7, protocol: UDP}]
endpoints: [{addresses: [%s]}]
`, s.pod.IPv4), 0o644)
	s.pod.ServeTCPEcho(s.pod.AddrPort4(7))
	l.serveLate()
	l.serveDatagrams()
	return l
}

// begin starts the clients. A machine that serves nothing yet fails them.
func (l *load) begin() {
	for i := range streams {
		l.lasts(func(c *net.TCPConn) error { return l.echoed(c, uint64(i), nil) })
		l.lasts(func(c *net.TCPConn) error { return l.echoed(c, uint64(i), l.end) }) // reads nothing until the end
	}
	l.clients.Go(func() { l.note(&l.broken, l.halfClosed()) })
	l.clients.Go(l.comeAndGo)
	l.clients.Go(l.datagrams)
}

// finish ends the clients, and says what became of them.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop()
	l.clients.Wait()
	t.Logf("%d new connections, %d failed, the slowest took %v; %d lasting ones, %d broken; %d bytes as they were sent; %d of %d datagrams answered, %d UDP sessions",
		l.began, len(l.failed), l.longest.Round(time.Millisecond), 2*streams+1, len(l.broken), l.moved.Load(), l.replied, l.asked, len(l.peers))
}

func (l *load) note(list *[]error, err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, err)
}

func (l *load) over() bool {
	select {
	case <-l.end:
		return true
	default:
		return false
	}
}

func (l *load) dial(port int) (*net.TCPConn, error) {
	c, err := l.Client.Dial("tcp", fmt.Sprintf("10.96.0.20:%d", port))
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.TCPConn), nil
}

func (l *load) lasts(use func(*net.TCPConn) error) {
	c, err := l.dial(7)
	if err != nil {
		l.t.Fatal(err)
	}
	l.clients.Go(func() {
		defer c.Close()
		l.note(&l.broken, use(c))
	})
}

func bytesOf(seed uint64) io.Reader {
	var key [32]byte
	binary.NativeEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// echoed sends until the end, and receives the same; not before a time, if there is one: then
// as much is sent as finds room.
func (l *load) echoed(c *net.TCPConn, seed uint64, from <-chan struct{}) error {
	sent := make(chan error, 1)
	go func() {
		data, b := bytesOf(seed), make([]byte, piece)
		for !l.over() {
			io.ReadFull(data, b)
			if _, err := c.Write(b); err != nil {
				sent <- err
				return
			}
			if from == nil {
				time.Sleep(interval)
			}
		}
		sent <- c.CloseWrite()
	}()
	if from != nil {
		<-from
	}
	return errors.Join(l.same(c, bytesOf(seed)), <-sent)
}

// same reads to the end of a connection.
func (l *load) same(c *net.TCPConn, want io.Reader) error {
	got, expected := make([]byte, piece), make([]byte, piece)
	for {
		n, err := c.Read(got)
		io.ReadFull(want, expected[:n])
		if !bytes.Equal(got[:n], expected[:n]) {
			return errors.New("other bytes came back than were sent")
		}
		l.moved.Add(int64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// halfClosed ends its own direction at once, and receives until the end.
func (l *load) halfClosed() error {
	c, err := l.dial(19)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.CloseWrite(); err != nil {
		return err
	}
	return l.same(c, bytesOf(19))
}

func (l *load) serveLate() {
	ln := l.pod.Listen("tcp", l.pod.AddrPort4(19))
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(io.Discard, c)
				for b, data := make([]byte, piece), bytesOf(19); !l.over(); time.Sleep(interval) {
					io.ReadFull(data, b)
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// comeAndGo has 50 new connections a second, each beside those that still wait.
func (l *load) comeAndGo() {
	var all sync.WaitGroup
	defer all.Wait()
	for ; !l.over(); time.Sleep(interval) {
		all.Go(func() {
			began := time.Now()
			err := l.once()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.began++
			l.longest = max(l.longest, time.Since(began))
			if err != nil {
				l.failed = append(l.failed, err)
			}
		})
	}
}

func (l *load) once() error {
	c, err := l.dial(7)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	return nil
}

// datagrams has one client ask and count the answers.
func (l *load) datagrams() {
	c, err := l.Client.Dial("udp", "10.96.0.20:7")
	if err != nil {
		l.note(&l.broken, err)
		return
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for b := make([]byte, 8); ; {
			_, err := c.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // refused
				l.note(&l.failed, err)
				continue
			}
			l.mu.Lock()
			l.replied++
			l.mu.Unlock()
		}
	})
	for ; !l.over(); time.Sleep(interval) {
		c.Write([]byte("datagram"))
		l.asked++
	}
	time.Sleep(200 * time.Millisecond) // for the last answers; what is late is lost
	c.Close()
	reading.Wait()
}

func (l *load) serveDatagrams() {
	c := l.pod.ListenUDP(l.pod.AddrPort4(7))
	go func() {
		for b := make([]byte, 100); ; {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.mu.Lock()
			l.peers[from] = true
			l.mu.Unlock()
			c.WriteToUDPAddrPort(b[:n], from)
		}
	}()
}
