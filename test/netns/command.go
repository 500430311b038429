package netns

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Cmd is a program that runs inside a namespace: an [exec.Cmd] to fill in as usual. It leads
// a process group of its own, all of which is killed when it ends, when its context does, or
// when the test does.
type Cmd struct {
	*exec.Cmd

	ns     *NS
	wait   sync.Once
	result error
}

// Command prepares a program to run inside the namespace. ctx may end it early.
func (ns *NS) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), ns: ns}
	c.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,
		Pdeathsig: unix.SIGKILL, // should the test binary itself be killed
	}
	c.WaitDelay = time.Second // for output held open by a process that left the group
	return c
}

// Start starts the program.
func (c *Cmd) Start() error {
	var err error
	c.ns.onStarter(func() { err = c.Cmd.Start() })
	if err == nil {
		c.ns.t.Cleanup(func() {
			c.Process.Kill()
			c.Wait()
		})
	}
	return err
}

// Wait waits for the program to end. It may be called any number of times, from anywhere.
func (c *Cmd) Wait() error {
	c.wait.Do(func() {
		c.killGroup()
		c.result = c.Cmd.Wait()
	})
	return c.result
}

// killGroup waits for the program to end and kills what is left of its group. Only while the
// program is not reaped does its number certainly mean this group.
func (c *Cmd) killGroup() {
	pid := c.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	unix.Kill(-pid, unix.SIGKILL)
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it wrote to its standard output. The error tells
// what it wrote to its standard error.
func (c *Cmd) Output() ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", c, err, stderr.Bytes())
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the program and returns all it wrote.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Run runs a program inside the namespace, which must succeed, and returns its output.
func (ns *NS) Run(name string, args ...string) string {
	ns.t.Helper()
	c := ns.Command(context.Background(), name, args...)
	out, err := c.CombinedOutput()
	if err != nil {
		ns.t.Fatalf("namespace %s: %s: %v\n%s", ns.Name, c, err, out)
	}
	return string(out)
}

// onStarter runs f on the one thread that begins all programs of the namespace. It lives as
// long as the namespace: the kernel's parent-death signal means the thread, not the process.
func (ns *NS) onStarter(f func()) {
	ns.starter.Do(func() { go ns.serveStarts() })
	done := make(chan struct{})
	ns.starts <- func() { f(); close(done) }
	<-done
}

// serveStarts is that thread.
func (ns *NS) serveStarts() {
	runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
	err := ns.enter()
	for f := range ns.starts {
		if err != nil {
			panic(err) // better no program than one outside
		}
		f()
	}
}
