package iptables

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// execer runs a program to its end, on the calling thread's network namespace.
// It is all that is between this package and the programs it runs itself.
type execer interface {
	// run feeds stdin to the program and returns what it wrote on its standard
	// output. A failure is an *execError.
	run(ctx context.Context, stdin string, program string, args ...string) (stdout string, err error)
}

// execError is a program that failed.
type execError struct {
	program string
	stderr  string // what it said, in one line
	err     error
}

func (e *execError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("%s: %v", e.program, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", e.program, e.err, e.stderr)
}

func (e *execError) Unwrap() error { return e.err }

// osExec runs real programs and kills them when ctx is done.
type osExec struct{}

func (osExec) run(ctx context.Context, stdin string, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // for a grandchild that holds the pipes
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if cause := ctx.Err(); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return "", &execError{program: program, stderr: oneLine(stderr.String()), err: err}
}

// oneLine joins what a program of iptables said, without its advice to read the
// help.
func oneLine(stderr string) string {
	var said []string
	for l := range strings.Lines(stderr) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "Try `") {
			said = append(said, l)
		}
	}
	return strings.ReplaceAll(strings.Join(said, "; "), ":; ", ": ")
}
