package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Try starts the program at path as a child in a trial: it gets the Parcel, with dups
// of its files, has to call Good, and has to end with status 0, all within patience.
// The error says what was wrong, and what the program printed on stderr last. Whatever
// comes, afterwards the child is gone, with its process group.
//
// The first of args is the program's name, env is its whole environment. While the
// trial lasts, a socket that this process closes is still open in the child: whoever
// wants the peer to know at once has to call shutdown(2) too.
func Try(ctx context.Context, path string, args, env []string, p Parcel, patience time.Duration) error {
	if err := checkProgram(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errImpatient)
	defer cancel()

	// The child ends with the thread that started it: it cannot outlive this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := startChild(path, args, env)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	err = c.run(ctx, p)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errImpatient):
		err = fmt.Errorf("it had not ended after %v", patience)
	}
	if said := c.stderr.text(); said != "" {
		err = fmt.Errorf("%w; its last words: %s", err, said)
	}
	return fmt.Errorf("trial of %s: %w", path, err)
}

var errImpatient = errors.New("the trial took too long")

// child is Try's side of a trial.
type child struct {
	cmd    *exec.Cmd
	conn   *net.UnixConn
	stderr lastWords
}

func startChild(path string, args, env []string) (*child, error) {
	conn, socket, err := socketpair()
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(socket), "trial")
	defer theirs.Close()
	c := &child{conn: conn}
	c.cmd = &exec.Cmd{
		Path:        path,
		Args:        args,
		Env:         environment(env, trialEnv, firstFile),
		Stderr:      &c.stderr,
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
		WaitDelay:   time.Second, // for stderr, which one that left the group may hold
	}
	if err := c.cmd.Start(); err != nil {
		conn.Close()
		return nil, notExecuted(path, args, c.cmd.Env, err)
	}
	return c, nil
}

// run sees a trial through to the end of the child.
func (c *child) run(ctx context.Context, p Parcel) error {
	sent := make(chan error, 1)
	go func() { sent <- Send(c.conn, p) }()
	ended := make(chan struct{})
	go c.awaitEnd(ended)

	var late error
	select {
	case <-ended:
	case <-ctx.Done():
		late = context.Cause(ctx)
	}
	// Nobody has waited for the child yet, so the number is still its group's.
	unix.Kill(-c.cmd.Process.Pid, unix.SIGKILL)
	<-ended
	c.conn.SetDeadline(time.Now())
	sendErr := <-sent
	waitErr := c.cmd.Wait()

	switch state := c.cmd.ProcessState; {
	case late != nil:
		return late
	case state == nil:
		return waitErr
	case !state.Success():
		return fmt.Errorf("it ended with %s", state)
	case !c.saidGood():
		return errors.New("it ended without saying that all is well; is it usher, and of a version that can be tried?")
	case sendErr != nil:
		return sendErr
	}
	return nil
}

// awaitEnd waits until the child is dead, and leaves it to be waited for.
func (c *child) awaitEnd(ended chan<- struct{}) {
	defer close(ended)
	for unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// saidGood looks at what the child has said. It waits for nothing.
func (c *child) saidGood() bool {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return false
	}
	said := make([]byte, 1)
	n := 0
	err = raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), said, unix.MSG_DONTWAIT) })
	return err == nil && n == 1 && said[0] == goodByte
}
