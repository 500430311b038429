package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// slowly is how long may pass until usher has noticed that its API server is
// back: it asks again after ever longer pauses.
const slowly = time.Minute

// curl runs curl in a namespace, once, and returns what it got.
func curl(from *netns.NS, url string, args ...string) (string, error) {
	args = append([]string{"--silent", "--show-error", "--fail", "--max-time", "10", url}, args...)
	out, err := from.Command(context.Background(), "curl", args...).Output()
	return string(out), err
}

// impatient is for requests that may come too early: a SYN that leaves before
// there is a rule for it is lost with all its repetitions.
var impatient = []string{"--connect-timeout", "0.3"}

// answers waits until exactly these servers answer, and expects that it stays so.
func (c *cluster) answers(from *netns.NS, url string, names ...string) {
	c.t.Helper()
	netns.EventuallyWithin(c.t, slowly, fmt.Sprintf("%s is answered by %v from %s", url, names, from.Name), func() error {
		return answeredBy(from, url, names)
	})
	// While others ask too, servers may have kept silent by chance so far.
	for range 20 {
		if answer, err := curl(from, url); err != nil || !slices.Contains(names, answer) {
			c.t.Fatalf("%s is answered by %v from %s, but then: %q, %v", url, names, from.Name, answer, err)
		}
	}
}

// answeredBy asks often enough that a server that takes part is seen, and one
// that does not would be.
func answeredBy(from *netns.NS, url string, names []string) error {
	seen := map[string]bool{}
	for range 4 * len(names) {
		answer, err := curl(from, url, impatient...)
		if err != nil {
			return err
		}
		seen[answer] = true
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, names) {
		return fmt.Errorf("%v answer", got)
	}
	return nil
}

// unanswered waits until nobody answers.
func (c *cluster) unanswered(from *netns.NS, url string) {
	c.t.Helper()
	netns.Eventually(c.t, url+" is not answered from "+from.Name, func() error {
		if _, err := curl(from, url, impatient...); err == nil {
			return errors.New("it is")
		}
		return nil
	})
}
