package node

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Without a service manager nobody holds the listeners of a usher that has crashed: clients
// are refused until another one is started.
func TestGapOfACrash(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start()
	served(t, s.client.NS, vip(10))

	stop, gap := make(chan struct{}), make(chan time.Duration, 1)
	var asking sync.WaitGroup
	asking.Go(func() { gap <- s.longestGap(stop) })
	u.Kill()
	s.start()
	served(t, s.client.NS, vip(10))
	close(stop)
	asking.Wait()
	t.Logf("after SIGKILL nobody was served for %v", (<-gap).Round(time.Millisecond))
}

// longestGap connects again and again, and returns the longest time in which nothing came of
// it.
func (s *scene) longestGap(stop <-chan struct{}) (longest time.Duration) {
	for last := time.Now(); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		c, err := s.client.DialContext(ctx, "tcp", "10.96.0.10:80")
		cancel()
		if err == nil {
			c.Close()
			longest, last = max(longest, time.Since(last)), time.Now()
		}
		select {
		case <-stop:
			return longest
		case <-time.After(5 * time.Millisecond):
		}
	}
}
