package takeover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

const patience = 20 * time.Second

// scene is a site with ushers on it, one after the other.
type scene struct {
	*load.Site
	t *testing.T
}

func newScene(t *testing.T) *scene { return &scene{Site: load.NewSite(t), t: t} }

func (s *scene) args(more ...string) []string {
	return append([]string{"run", "--manifests=" + s.Folder, "--capture=iptables", "--node-name=node", "--admin-socket=" + s.Socket,
		"--log-format=json", "--drain-timeout=5s"}, more...)
}

// start starts the first usher and waits until it serves.
func (s *scene) start(more ...string) *usher.Process {
	s.t.Helper()
	u := usher.Launch(s.t, s.NS, s.args(more...)...)
	s.serves(0)
	return u
}

// pod is what a container runtime puts before a command line: namespaces of its own.
var pod = []string{"unshare", "--pid", "--mount", "--fork", "--kill-child=SIGKILL", "--mount-proc"}

// takeOver starts an usher that takes over.
func (s *scene) takeOver(more ...string) *usher.Process {
	s.t.Helper()
	return usher.Launch(s.t, s.NS, s.args(append(more, "--take-over")...)...)
}

// status is what the usher that answers tells of itself.
func (s *scene) status() (now admin.Status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err = admin.Get(ctx, s.Socket, "/v1/status", nil, &now)
	return now, err
}

// serves waits until the usher that answers is the one after so many take-overs.
func (s *scene) serves(upgrades int) {
	s.t.Helper()
	netns.EventuallyWithin(s.t, patience, fmt.Sprintf("usher serves after %d take-overs", upgrades), func() error {
		now, err := s.status()
		if err == nil && (!now.Ready || now.Upgrades != upgrades) {
			err = fmt.Errorf("ready: %v, %d take-overs", now.Ready, now.Upgrades)
		}
		return err
	})
}

// hasTakenOver waits until an usher has, which tells for how long nobody was served before it.
func hasTakenOver(t *testing.T, u *usher.Process) {
	t.Helper()
	u.WaitLog("went on with")
	if n := len(load.Pauses(u.Log())); n != 1 {
		t.Errorf("it tells of %d pauses", n)
	}
}

// parked waits until a process does nothing any more but wait for SIGTERM, and ends it. It has
// no socket that the one has that serves.
func parked(t *testing.T, u, serves *usher.Process) {
	t.Helper()
	u.WaitLog("waiting for SIGTERM")
	theirs := sockets(t, processOf(t, serves))
	for socket := range sockets(t, processOf(t, u)) {
		if theirs[socket] {
			t.Errorf("it still has %s", socket)
		}
	}
	began := time.Now()
	if code := stop(t, u); code != 0 || time.Since(began) > 2*time.Second {
		t.Errorf("SIGTERM has ended it with exit code %d after %v", code, time.Since(began))
	}
}

// sockets are those that a process has, by what the kernel calls them.
func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for _, f := range files {
		if at, _ := os.Readlink(filepath.Join(dir, f.Name())); strings.HasPrefix(at, "socket:") {
			list[at] = true
		}
	}
	return list
}

// processOf is the number of usher itself, if it is under a runtime.
func processOf(t *testing.T, u *usher.Process) int {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", u.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if child, err := strconv.Atoi(strings.TrimSpace(string(children))); err == nil {
		return child
	}
	return u.PID()
}

// stop ends it by SIGTERM, which unshare does not pass on.
func stop(t *testing.T, u *usher.Process) int {
	t.Helper()
	if err := syscall.Kill(processOf(t, u), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return u.Wait()
}
