package transparent

import (
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// cache remembers answers for a short time, the most recently used ones if
// there are too many. It may be used by any number of goroutines. (The
// expirable LRU of the same module has a goroutine that never ends.)
type cache[K comparable, V any] struct {
	ask        func(K) (V, error)
	ttl        time.Duration
	entries    *lru.Cache[K, answer[V]]
	generation atomic.Uint64 // of the answers that are still good
}

type answer[V any] struct {
	value      V
	generation uint64
	expires    time.Time
}

func newCache[K comparable, V any](size int, ttl time.Duration, ask func(K) (V, error)) (*cache[K, V], error) {
	entries, err := lru.New[K, answer[V]](size)
	return &cache[K, V]{ask: ask, ttl: ttl, entries: entries}, err
}

// get asks if it does not know. An error is not remembered.
func (c *cache[K, V]) get(key K) (V, error) {
	// Before asking: what is forgotten meanwhile may be what the answer is from.
	generation := c.generation.Load()
	if a, ok := c.entries.Get(key); ok && a.generation == generation && time.Now().Before(a.expires) {
		return a.value, nil
	}
	value, err := c.ask(key)
	if err == nil {
		c.entries.Add(key, answer[V]{value, generation, time.Now().Add(c.ttl)})
	}
	return value, err
}

func (c *cache[K, V]) forget() { c.generation.Add(1) }
