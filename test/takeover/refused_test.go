package takeover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

const nothingChanged = "nothing has changed, as the upgrade has failed"

// failures waits until so many take-overs have failed.
func failures(t *testing.T, u *usher.Process, n int) {
	t.Helper()
	netns.EventuallyWithin(t, patience, fmt.Sprintf("%d take-overs have failed", n), func() error {
		if found := strings.Count(u.Log(), nothingChanged); found < n {
			return fmt.Errorf("%d have", found)
		}
		return nil
	})
}

// Whenever the new process dies before it has said that everything is its own, or hangs, the
// old one goes on. It waits for seconds at most, and while everything rests for two.
func TestNewOneDiesOrHangs(t *testing.T) {
	s := newScene(t)
	u := s.start("--take-over")
	l := load.Begin(s.Site, load.Small)
	failed := 0
	for _, step := range steps {
		for _, hangs := range []bool{false, true} {
			l.Flows()
			l.Slowest()
			began := time.Now()
			p := s.playTo(step)
			if !hangs {
				p.Process.Kill()
			}
			failed++
			failures(t, u, failed)
			took := time.Since(began)
			p.Process.Kill()
			l.Flows()
			slowest := l.Slowest()
			t.Logf("%s, hangs: %v: it is over after %v, the slowest new connection took %v", step, hangs, took.Round(time.Millisecond), slowest.Round(time.Millisecond))
			rests := slices.Index(steps, step) >= slices.Index(steps, "proved")
			if limit := 5 * time.Second; took > limit || slowest > limit || !rests && slowest > 2*time.Second {
				t.Errorf("that is too long")
			}
		}
	}
	l.Tell()
	s.serves(0)
	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// One that was stopped, and goes on after the other's patience has ended, must not serve.
func TestOneThatComesTooLate(t *testing.T) {
	s := newScene(t)
	u := s.start("--take-over")
	l := load.Begin(s.Site, load.Small)
	l.Flows()
	p := s.playTo(stopsItself)
	failures(t, u, 1)
	l.Flows()
	p.Process.Signal(syscall.SIGCONT)
	if line := p.line(t); !strings.Contains(line, "has not waited any longer") {
		t.Errorf("it says %s", line)
	}
	l.Flows()
	hasTakenOver(t, s.takeOver())
	s.serves(1)
	l.Flows()
	l.Tell()
}

// A real usher is stopped at any moment of its start. Whoever has everything then, it is one
// of the two, and no connection ends.
func TestStoppedAtAnyMoment(t *testing.T) {
	s := newScene(t)
	u, upgrades := s.start("--take-over"), 0
	l := load.Begin(s.Site, load.Small)
	for after := time.Duration(0); after < 90*time.Millisecond; after += 15 * time.Millisecond {
		l.Flows()
		next := s.takeOver()
		time.Sleep(after)
		next.Signal(syscall.SIGSTOP)
		time.Sleep(2500 * time.Millisecond)
		next.Signal(syscall.SIGCONT)
		if won := s.outcome(next); won {
			upgrades++
			parked(t, u, next)
			u = next
			t.Logf("stopped after %v: it has taken over", after)
		} else {
			t.Logf("stopped after %v: it has ended", after)
		}
		s.serves(upgrades)
	}
	l.Flows()
	l.Tell()
}

// outcome waits until an usher has taken over, or has ended because it could not.
func (s *scene) outcome(u *usher.Process) (won bool) {
	s.t.Helper()
	netns.EventuallyWithin(s.t, patience, "it has taken over, or ended", func() error {
		log := u.Log()
		won = strings.Contains(log, "went on with")
		if !won && !strings.Contains(log, "usher: --take-over: ") {
			return fmt.Errorf("neither")
		}
		return nil
	})
	if !won {
		if code := u.Wait(); code != 1 {
			s.t.Errorf("exit code %d", code)
		}
	}
	return won
}

// Of two at once one takes over, and the other one from that, or it is refused.
func TestTwoNewOnes(t *testing.T) {
	s := newScene(t)
	s.start("--take-over")
	l := load.Begin(s.Site, load.Small)
	upgrades := 0
	for range 5 {
		l.Flows()
		for _, u := range []*usher.Process{s.takeOver(), s.takeOver()} {
			if s.outcome(u) {
				upgrades++
			}
		}
		s.serves(upgrades)
	}
	l.Flows()
	l.Tell()
	t.Logf("%d of 10 have taken over", upgrades)
}

// nobodysKubeconfig is one of an API server at an address where nobody answers.
const nobodysKubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`

// The state goes along, so that the API server is not needed.
func TestAPIServerIsAway(t *testing.T) {
	s := newScene(t)
	s.start("--take-over")
	l := load.Begin(s.Site, load.Small)
	l.Flows()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(nobodysKubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		next := usher.Launch(t, s.NS, "run", "--kubeconfig="+kubeconfig, "--capture=iptables", "--node-name=node", "--admin-socket="+s.Socket,
			"--log-format=json", "--take-over")
		hasTakenOver(t, next)
		s.serves(n + 1)
		l.Flows()
	}
	l.Tell()
}

// What cannot go on is told before anything rests.
func TestRefused(t *testing.T) {
	s := newScene(t)
	u := s.start("--take-over")
	l := load.Begin(s.Site, load.Small)
	l.Flows()
	elsewhere := netns.New(t, "elsewhere")
	for _, c := range []struct {
		what string
		ns   *netns.NS
		arg  string
		want string
	}{
		{"another node", s.NS, "--node-name=other", `the node that is served is "node", not "other"`},
		{"another network", elsewhere, "--udp-idle-timeout=30s", "another network namespace"},
		{"another capture", s.NS, "--capture=bind", "what is served is by iptables"},
		{"no iptables", s.NS, "", "executable file not found"},
		{"no source", s.NS, "--manifests=" + s.Folder + "/none", "none"},
	} {
		t.Run(c.what, func(t *testing.T) {
			args := s.args("--take-over", c.arg)
			if c.arg == "" {
				t.Setenv("PATH", t.TempDir())
				args = args[:len(args)-1]
			}
			_, stderr, code := usher.Run(t, c.ns, args...)
			if code != 1 || !strings.Contains(stderr, "usher: --take-over: ") || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
		})
	}
	l.Flows()
	l.Tell()
	s.serves(0)
	if strings.Contains(u.Log(), "went on") {
		t.Error("everything rested")
	}
}
