package takeover

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/usher"
)

// Ten take-overs in a row under load, every other one from or to a process in namespaces of its
// own.
func TestTakeOverUnderLoad(t *testing.T) {
	s := newScene(t)
	u := s.start("--take-over")
	before := s.Run("iptables-save", "-t", "nat")
	l, end := begin(t, s.dial)
	var pauses []time.Duration
	for n := range 10 {
		settle(t, l)
		var next *usher.Process
		if n%2 == 0 {
			next = usher.LaunchUnder(t, s.NS, pod, s.args("--take-over")...)
		} else {
			next = s.takeOver()
		}
		pauses = append(pauses, pauseOf(t, next))
		s.serves(n + 1)
		parked(t, u, next)
		u = next
	}
	settle(t, l)
	end()
	slices.Sort(pauses)
	t.Logf("pause: median %v, max %v", pauses[len(pauses)/2], pauses[len(pauses)-1])
	if after := s.Run("iptables-save", "-t", "nat"); rules(after) != rules(before) {
		t.Errorf("the rules were\n%s\nand are\n%s", rules(before), rules(after))
	}
	if code := stop(t, u); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left := s.Run("iptables-save"); strings.Contains(left, "USHER") {
		t.Errorf("there is left\n%s", left)
	}
	if _, err := os.Stat(s.socket); !os.IsNotExist(err) {
		t.Errorf("of the admin socket there is left: %v", err)
	}
}

// rules are those in the output of iptables-save, without counters and times.
func rules(saved string) string {
	var list []string
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, "-A") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "")
}

// Without --take-over of its own the old process ends: nobody starts it again.
func TestOldOneEnds(t *testing.T) {
	s := newScene(t)
	u := s.start()
	_, end := begin(t, s.dial)
	next := s.takeOver()
	u.WaitLog("handed over to process")
	if code := u.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("pause %v", pauseOf(t, next))
	s.serves(1)
	end()
}

// If nobody is there it starts as usual, also beside a socket that a dead one has left.
func TestNobodyToTakeOverFrom(t *testing.T) {
	s := newScene(t)
	u := s.start("--take-over")
	u.WaitLog("nothing to take over")
	u.Kill()
	s.start("--take-over").WaitLog("nothing to take over")
}
