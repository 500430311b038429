package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// bootTime is how long a machine may take to boot on a busy host; a second or so is usual.
const bootTime = time.Minute

// Machine is one that has booted.
type Machine struct {
	// Node is the machine's network. The lab has made its interfaces; systemd leaves them
	// alone. Its programs are those of the test's own root.
	*netns.Node

	t       testing.TB
	name    string
	cmd     *netns.Cmd
	console *console
	init    int // the machine's process 1, as the test sees it
	close   sync.Once
}

// machines numbers those of this process.
var machines atomic.Int32

// Boot boots a machine for the duration of the test. A test that fails logs the last that
// its console said.
func Boot(t testing.TB) *Machine {
	t.Helper()
	if os.Getenv(rootEnv) == "" {
		t.Skip("to boot a machine takes root")
	}
	m := &Machine{
		Node: netns.NewNode(t, "machine"), t: t, console: &console{},
		name: fmt.Sprintf("usher-test-%d-%d", os.Getpid(), machines.Add(1)),
	}
	// It is process 1 of a namespace, so that nothing outlives it: nspawn alone would leave
	// its machine running when it is killed.
	m.cmd = m.Node.Command(context.Background(), "sh", "-euc", enterGroups+`exec unshare --pid --fork --kill-child --mount-proc "$@"`, m.name,
		"systemd-nspawn", "--quiet", "--boot", "--machine="+m.name, "--directory="+os.Getenv(rootEnv), "--volatile=overlay",
		"--register=no", "--keep-unit", "--console=pipe", "--network-namespace-path=/proc/self/ns/net", "--capability=CAP_NET_ADMIN")
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	netns.EventuallyWithin(t, bootTime, "the machine boots", m.booted)
	return m
}

// enterGroups is shell that puts the machine into control groups of its own: machines in the
// same one would take each other's for theirs. There is a hierarchy of systemd's, or one for
// all, or both.
const enterGroups = `
for h in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
	[ -e $h/cgroup.procs ] || continue
	mkdir -p "$h/$0"
	echo 0 >"$h/$0/cgroup.procs"
done
`

// groups are the machine's control groups.
func (m *Machine) groups() (found []string) {
	for _, h := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(h, m.name)); err == nil {
			found = append(found, filepath.Join(h, m.name))
		}
	}
	return found
}

// booted says whether all units have been started that belong to the boot.
func (m *Machine) booted() error {
	for _, group := range m.groups() {
		text, err := os.ReadFile(filepath.Join(group, "payload/init.scope/cgroup.procs"))
		if err == nil {
			first, _, _ := strings.Cut(string(text), "\n")
			m.init, _ = strconv.Atoi(first)
			break
		}
	}
	if m.init == 0 {
		return errors.New("there is no process 1 yet")
	}
	state, err := m.Try("systemctl", "is-system-running")
	if state = strings.TrimSpace(state); state == "running" || state == "degraded" {
		return nil
	}
	return fmt.Errorf("systemd is %s: %w", state, err)
}

// Close ends the machine as a power failure does. The end of the test does so, too.
func (m *Machine) Close() { m.close.Do(m.powerOff) }

func (m *Machine) powerOff() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
	if m.t.Failed() {
		m.t.Logf("the last that the machine's console said:\n%s", m.console.tail())
	}
	for _, group := range m.groups() {
		netns.Eventually(m.t, "the machine's control groups are empty", func() error { return removeGroups(group) })
	}
}

// removeGroups removes a control group and those below it.
func removeGroups(group string) error {
	entries, err := os.ReadDir(group)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(group, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(group)
}

// console keeps the last that the machine has written there.
type console struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// consoleKept is enough for what systemd says of a boot.
const consoleKept = 64 << 10

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if over := c.text.Len() + len(b) - consoleKept; over > 0 {
		c.text.Next(over)
	}
	return c.text.Write(b)
}

func (c *console) tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
