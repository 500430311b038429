package tcp

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Events say what may be done with a connection, as far as it has changed.
type Events uint32

// Readable: there are bytes to read, or the end of them.
func (e Events) Readable() bool {
	return e&(unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// Writable: there is room to write, or writing fails.
func (e Events) Writable() bool { return e&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// Ending: the peer's FIN has come, or the connection is over. It may come with bytes.
func (e Events) Ending() bool { return e&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// Over: the connection is over in both directions.
func (e Events) Over() bool { return e&(unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// Urgent: the peer has sent urgent data, at a mark that is yet to be read past. A read
// ends there although there is more, and splice(2) does not get past it.
func (e Events) Urgent() bool { return e&unix.EPOLLPRI != 0 }

// Handler is called by a poller when there is something to do for a socket. It must not
// block, as others wait for that poller, unless it calls Poller.HandOver before.
type Handler interface{ Ready(*Poller, Events) }

// maxPollers bounds how often every listener is watched.
const maxPollers = 8

// Pollers are what watches all sockets of a proxy.
type Pollers struct{ all []*Poller }

// NewPollers returns pollers for so many cores, 8 at most, that have to be closed. Each
// takes two files, and a thread. While it waits it keeps one of the processors that the
// runtime has (GOMAXPROCS): unless one more is left over, the runtime looks every 20 us
// whether to take it back.
func NewPollers(cores int) (*Pollers, error) {
	p := &Pollers{}
	for range min(cores, maxPollers) {
		one, err := newPoller()
		if err != nil {
			p.Close()
			return nil, err
		}
		p.all = append(p.all, one)
	}
	return p, nil
}

// stays is how many sockets more than another one a poller may have and keep what it has
// accepted: a connection that changes pollers wakes another thread.
const stays = 8

// For is the poller for a connection that was accepted by one, or by nobody: the kernel
// wakes the same one for all that come in quiet times.
func (p *Pollers) For(by *Poller) *Poller {
	least := p.all[0]
	for _, other := range p.all[1:] {
		if other.n.Load() < least.n.Load() {
			least = other
		}
	}
	if by != nil && by.n.Load() <= least.n.Load()+stays {
		return by
	}
	return least
}

// Close ends the goroutines, and waits for handlers that are being called. It is not for
// a handler to call.
func (p *Pollers) Close() {
	for _, one := range p.all {
		one.close()
	}
}

// Poller watches sockets. It is safe for concurrent use.
type Poller struct {
	fd   int // of epoll(7)
	bell int // rings when the poller is to end (eventfd(2))
	gone chan struct{}

	mu    sync.Mutex
	slots []slot // the first is the bell's
	free  []int32
	n     atomic.Int32 // sockets; written under the lock

	term atomic.Int32 // grows whenever another goroutine begins to poll

	// These belong to the goroutine that polls now.
	events    [batch]unix.EpollEvent
	sockets   [batch]*Socket
	next, end int // what is left of the batch
}

// slot is the place of one socket after the other. What is still to be told of an
// earlier one is known by its generation.
type slot struct {
	socket     *Socket
	generation int32
}

// batch is how many events are taken at a time.
const batch = 128

func newPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		unix.Close(fd)
		unix.Close(bell)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	p := &Poller{fd: fd, bell: bell, gone: make(chan struct{}), slots: make([]slot, 1)}
	go p.run(0)
	return p, nil
}

func (p *Poller) close() {
	unix.Write(p.bell, []byte{7: 1}) // as good as any number in either order of bytes
	<-p.gone
	unix.Close(p.fd)
	unix.Close(p.bell)
}

// add takes a socket in, until remove.
func (p *Poller) add(s *Socket, events uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		s.slot, p.free = p.free[n-1], p.free[:n-1]
	} else {
		s.slot = int32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	p.slots[s.slot].socket = s
	p.n.Add(1)
	err := p.control(unix.EPOLL_CTL_ADD, s, events)
	if err != nil {
		p.release(s)
	}
	return err
}

// change has a socket watched for other events. Those that are there are told of.
func (p *Poller) change(s *Socket, events uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.control(unix.EPOLL_CTL_MOD, s, events)
}

// remove forgets a socket, which stays open or is about to be closed.
func (p *Poller) remove(s *Socket, stays bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stays {
		p.control(unix.EPOLL_CTL_DEL, s, 0)
	}
	p.release(s)
}

// control needs p.mu.
func (p *Poller) control(what int, s *Socket, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: s.slot, Pad: p.slots[s.slot].generation}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, what, s.FD(), &event))
}

// release needs p.mu.
func (p *Poller) release(s *Socket) {
	at := &p.slots[s.slot]
	at.socket = nil
	p.n.Add(-1)
	at.generation++
	p.free = append(p.free, s.slot)
}

// slice is for how long a goroutine polls before it lets others run. After 10 ms without
// that the runtime takes it for one that hogs its processor, and takes that away from it
// whenever it waits: the next system call ends without a processor to go on with.
const slice = 8 * time.Millisecond

// run calls handlers, until the poller is closed or another goroutine polls.
func (p *Poller) run(term int32) {
	began := time.Now()
	for p.term.Load() == term {
		if p.next == p.end {
			if time.Since(began) > slice {
				runtime.Gosched()
				began = time.Now()
			}
			p.wait()
			continue
		}
		at := p.next
		p.next++
		if p.events[at].Fd == 0 {
			close(p.gone)
			return
		}
		if s := p.sockets[at]; s != nil {
			s.ready(p, Events(p.events[at].Events))
		}
	}
}

// HandOver has another goroutine poll. A handler calls it before it blocks, once at most.
func (p *Poller) HandOver() {
	go p.run(p.term.Add(1))
}

// wait waits for the next batch of events. A thread blocks: by way of the runtime's own
// poller each batch would take some system calls more.
func (p *Poller) wait() {
	n, _ := unix.EpollWait(p.fd, p.events[:], -1)
	p.next, p.end = 0, max(n, 0) // a signal has interrupted it
	p.find(p.sockets[:p.end], p.events[:p.end])
}

// find finds the sockets that events are of, nil for those that are not watched any more.
func (p *Poller) find(sockets []*Socket, events []unix.EpollEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range events {
		sockets[i] = nil
		if at := p.slots[e.Fd]; at.generation == e.Pad {
			sockets[i] = at.socket
		}
	}
}
