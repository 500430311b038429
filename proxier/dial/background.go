package dial

import (
	"context"
	"sync"
)

// maxKept is how many attempts run on in the background at most. Each takes a
// file until Retry.Timeout is over.
const maxKept = 64

// background are the attempts that may outlive the search that began them.
type background struct {
	ctx    context.Context // of all of them
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	kept   int // have outlived it
}

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// enter counts an attempt until leave; false if none may begin any more.
func (b *background) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.all.Add(1)
	}
	return !b.closed
}

func (b *background) leave() { b.all.Done() }

// keep lets an attempt outlive its search until unkeep; false if too many do.
func (b *background) keep() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.kept >= maxKept {
		return false
	}
	b.kept++
	return true
}

func (b *background) unkeep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept--
}

func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.all.Wait()
}
