package source

import (
	"sync"
	"sync/atomic"

	"k8s.io/client-go/tools/cache"
)

// cached is the list of what an informer's cache holds. It is made anew only when
// something has changed, so that who has a list sees at once whether another one is
// the same. It is safe for concurrent use.
type cached[T any] struct {
	informer cache.SharedIndexInformer
	stale    atomic.Bool

	mu   sync.Mutex
	list []T
}

// changed tells that the cache is not what it was. It comes after the change: what
// changed before objects looks is in the list, and what changes later is told later.
func (c *cached[T]) changed() { c.stale.Store(true) }

// objects returns the list, which nobody may change.
func (c *cached[T]) objects() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale.Swap(false) || c.list == nil {
		c.list = list[T](c.informer)
	}
	return c.list
}
