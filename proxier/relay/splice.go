package relay

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/limit"
)

// errNoPipe says that as many pipes as there may be are in use, or that the process has
// no files for another one.
var errNoPipe = errors.New("no pipe is free")

// splice moves bytes without copying them, until there are no more.
func (f *flow) splice() (n int64, err error) {
	p := pipes.get()
	if p == nil {
		return 0, errNoPipe
	}
	for {
		got, err := f.fill(p)
		if err != nil || got == 0 {
			p.put()
			f.bulk = n == 0 || n > bufferSize
			return n, err
		}
		f.first()
		n += int64(got)
		if err := f.drain(p); err != nil {
			f.left = &leftover{pipe: p}
			return n, err
		}
		if f.stopped.Load() {
			p.put()
			return n, errStopped
		}
	}
}

// fill moves bytes of the source into a pipe, which is empty. After a FIN these are 0.
func (f *flow) fill(p *pipe) (int, error) {
	n, err := splice(f.src.conn.FD(), p.w, p.size)
	switch {
	case err == unix.EAGAIN:
		return 0, errDrained
	case err != nil:
		return 0, f.failed(f.src, os.NewSyscallError("splice", err))
	case n == 0 && (!f.src.ending.Load() || f.src.urgent.Load()):
		return 0, errDrained // the poller is about to tell more than that: this may be no FIN (urgent.go)
	}
	p.n = n
	return n, nil
}

// drain moves what is in a pipe on, as far as there is room.
func (f *flow) drain(p *pipe) error {
	for p.n > 0 {
		n, err := splice(p.r, f.dst.conn.FD(), p.n)
		switch {
		case err == unix.EAGAIN:
			return errFull
		case err != nil:
			return f.failed(f.dst, os.NewSyscallError("splice", err))
		}
		p.n -= n
		f.moved.Add(int64(n))
	}
	return nil
}

func splice(from, to, most int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(n), err
		}
	}
}

const (
	// pipeSize is what a pipe is asked to hold. Where the kernel allows less (pipe(7),
	// pipe-user-pages-soft) it holds that.
	pipeSize = 1 << 20
	// keepPipes is how many pipes wait for the next flow at most.
	keepPipes = 8
)

// pipe moves bytes of one flow at a time.
type pipe struct {
	r, w, size int
	n          int // bytes in it
}

// pipes are those that flows share.
var pipes pipePool

type pipePool struct {
	mu   sync.Mutex
	free []*pipe
	used int
}

// get returns an empty pipe, nil if there is none.
func (p *pipePool) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used >= limit.Pipes {
		return nil
	}
	p.used++
	if last := len(p.free) - 1; last >= 0 {
		one := p.free[last]
		p.free = p.free[:last]
		return one
	}
	one := newPipe()
	if one == nil {
		p.used--
	}
	return one
}

func newPipe() *pipe {
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	size, err := unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil {
		size, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_GETPIPE_SZ, 0)
	}
	return &pipe{r: ends[0], w: ends[1], size: size}
}

// FreePipes closes the pipes that are kept for relays to come, which make new ones.
func FreePipes() {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	for _, p := range pipes.free {
		unix.Close(p.r)
		unix.Close(p.w)
	}
	pipes.free = nil
}

// release leaves a pipe to whoever gets a State. It does not count here any more.
func (p *pipe) release() *Pipe {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	pipes.used--
	return &Pipe{R: p.r, W: p.w, Bytes: p.n}
}

// adoptPipe counts also if there are as many as there may be: it has to be emptied.
func adoptPipe(p *Pipe) *pipe {
	size, _ := unix.FcntlInt(uintptr(p.R), unix.F_GETPIPE_SZ, 0)
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	pipes.used++
	return &pipe{r: p.R, w: p.W, size: size, n: p.Bytes}
}

// put gives a pipe back. One that is not empty is of no use to others.
func (p *pipe) put() {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	pipes.used--
	if p.n == 0 && len(pipes.free) < keepPipes {
		pipes.free = append(pipes.free, p)
		return
	}
	unix.Close(p.r)
	unix.Close(p.w)
}
