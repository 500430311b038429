package udp

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// loop is one goroutine that moves the datagrams of some sockets and of all
// their sessions. All of these are its own: nobody else reads, writes or closes
// them, so a number that the kernel gives to another file is never mistaken.
// Nothing in it blocks.
type loop struct {
	table    *Table
	refusals *refusals
	mark     int
	set      *epollSet
	files    []file // by number; nil: not ours
	in       *batch // from clients
	out      *replies
	sending  outgoing // to an endpoint

	wakeUp int // eventfd
	done   chan struct{}

	mu     sync.Mutex
	tasks  []func() // for the loop to do
	closed bool
}

// file is something that the loop reads from.
type file interface {
	// readable is called when there may be something to read.
	readable(now time.Duration)
}

func newLoop(table *Table, refusals *refusals, mark int) (*loop, error) {
	set, err := newEpollSet()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		set.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := set.add(fd); err != nil {
		unix.Close(fd)
		set.close()
		return nil, err
	}
	l := &loop{table: table, refusals: refusals, mark: mark, set: set, wakeUp: fd, in: newBatch(), done: make(chan struct{})}
	l.out = &replies{batch: newBatch()}
	l.remember(fd, tasks{l})
	go l.run()
	return l, nil
}

func (l *loop) run() {
	defer close(l.done)
	for {
		ready, err := l.set.wait()
		if err != nil { // closed
			return
		}
		now := l.table.now()
		for _, replies := range []bool{true, false} { // who has an answer need not wait for others' questions
			for _, e := range ready {
				f := l.files[e.Fd]
				if _, is := f.(*session); f != nil && is == replies { // it may have gone in this very round
					f.readable(now)
				}
			}
			l.out.flush()
		}
	}
}

// watch makes the loop read from a file.
func (l *loop) watch(fd int, f file) error {
	if err := l.set.add(fd); err != nil {
		return err
	}
	l.remember(fd, f)
	return nil
}

func (l *loop) remember(fd int, f file) {
	for len(l.files) <= fd {
		l.files = append(l.files, nil)
	}
	l.files[fd] = f
}

// unwatch makes the loop read no more from a file. Closing it would not do where another
// process has it, too.
func (l *loop) unwatch(fd int) {
	l.files[fd] = nil
	l.set.remove(fd)
}

// forget closes a file that the loop reads from.
func (l *loop) forget(fd int) {
	l.unwatch(fd)
	unix.Close(fd)
}

// do has the loop do something, and waits for it. A loop that has been closed
// does nothing.
func (l *loop) do(task func()) {
	done := make(chan struct{})
	if !l.post(func() { task(); close(done) }) {
		return
	}
	select {
	case <-done:
	case <-l.done:
	}
}

// post has the loop do something soon.
func (l *loop) post(task func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.tasks = append(l.tasks, task)
	if len(l.tasks) == 1 {
		unix.Write(l.wakeUp, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

// tasks are what others have posted.
type tasks struct{ *loop }

func (t tasks) readable(time.Duration) {
	var count [8]byte
	unix.Read(t.wakeUp, count[:])
	t.mu.Lock()
	todo := t.tasks
	t.tasks = nil
	t.mu.Unlock()
	for _, task := range todo {
		task()
	}
}

// close ends the loop; what it had to do before is done.
func (l *loop) close() {
	l.do(func() {})
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.set.close()
	<-l.done
	unix.Close(l.wakeUp)
}
