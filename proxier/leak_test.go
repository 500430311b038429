package proxier

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// usage is what the process holds now.
func usage(t *testing.T) (goroutines, files int) {
	t.Helper()
	runtime.GC() // the runtime keeps pipes for splice in a pool
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(open)
}

func TestNothingIsLeftOf10000Connections(t *testing.T) {
	s := newScene(t)
	a, b, dead := newBackend(t), newBackend(t), freeAddr(t)
	s.set(with(service("web", vip), a.addr, b.addr, dead)...)
	s.served(vip)
	goroutines, files := usage(t)

	const n, clients = 10000, 20
	var failed atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range n / clients {
				if _, err := get(vip); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d connections failed", failed.Load(), n)
	}
	for range n {
		s.record()
	}
	s.eventually("back to where it was", func() error {
		g, f := usage(t)
		if g > goroutines || f > files {
			return fmt.Errorf("goroutines %d -> %d, files %d -> %d", goroutines, g, files, f)
		}
		return nil
	})
}
