package systemd

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// commandTime bounds one command inside a machine. A unit that starts or stops may take its
// time.
const commandTime = time.Minute

// Command prepares a program to run inside the machine, in all of its namespaces.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target=" + strconv.Itoa(m.init), "--all", "--", name}, args...)...)
	cmd.WaitDelay = time.Second // for output held open by what it started
	return cmd
}

// Try runs a program inside the machine and returns what it wrote to its standard output. The
// error tells what it wrote to its standard error.
func (m *Machine) Try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := m.Command(ctx, name, args...)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, faults.Bytes())
	}
	return out.String(), nil
}

// Run is Try of what must succeed.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.Try(name, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// Systemctl runs systemctl, which must succeed.
func (m *Machine) Systemctl(args ...string) string {
	m.t.Helper()
	return m.Run("systemctl", args...)
}

// Property is one of a unit, as systemctl show has it.
func (m *Machine) Property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.Systemctl("show", "--value", "--property="+name, unit))
}

// Await waits until a property of a unit has a value.
func (m *Machine) Await(unit, property, want string) {
	m.t.Helper()
	netns.EventuallyWithin(m.t, commandTime, unit+": "+property+"="+want, func() error {
		if got := m.Property(unit, property); got != want {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// Journal is what a unit has written so far, and what systemd has to say of it.
func (m *Machine) Journal(unit string) string {
	m.t.Helper()
	return m.Run("journalctl", "--no-pager", "--output=cat", "--unit="+unit)
}

// Push writes a file inside the machine, and makes its folder.
func (m *Machine) Push(path, content string, mode fs.FileMode) {
	m.t.Helper()
	inside := m.Path(path)
	if err := os.MkdirAll(filepath.Dir(inside), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(inside+".new", []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(inside+".new", inside); err != nil {
		m.t.Fatal(err)
	}
}

// PushFile copies a file into the machine.
func (m *Machine) PushFile(path, from string, mode fs.FileMode) {
	m.t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Push(path, string(content), mode)
}

// Path is where the test sees a file of the machine.
func (m *Machine) Path(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", m.init), path)
}
