package iptables

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// restore writes to the kernel what iptables-restore reads. Either all of a
// table is changed or nothing of it.
func (t *Table) restore(ctx context.Context, input string) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	wait := strconv.Itoa(int(t.lockWait / time.Second))
	_, err := t.exec.run(ctx, input, t.programs.restore, "--noflush", "-w", wait)
	switch {
	case err == nil:
		t.commits.Add(uint64(strings.Count(input, "COMMIT\n")))
		return nil
	case lockHeld(err):
		return fmt.Errorf("%w, waited %s s for it: find it with fuser -v /run/xtables.lock: %w", ErrLocked, wait, err)
	}
	if failed := failedLine(err, input); failed != "" {
		return fmt.Errorf("%w: in %q", err, failed)
	}
	return err
}

// lockHeld says whether a program gave up waiting for the lock.
func lockHeld(err error) bool { return strings.Contains(err.Error(), "xtables lock") }

// save returns the rules of all tables that are in use, as iptables-save prints
// them.
func (t *Table) save(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return t.exec.run(ctx, "", t.programs.save)
}

// lineNumber finds where iptables-restore says that its input is wrong:
// "Error occurred at line: 3", "line 3 failed", "line 3: RULE_APPEND failed".
var lineNumber = regexp.MustCompile(`line:? (\d+)`)

// failedLine returns the line of the input that the error is about, or nothing
// if that cannot be told. The legacy backend learns from the kernel only that
// the whole table was refused, and then names its COMMIT.
func failedLine(err error, input string) string {
	var e *execError
	if !errors.As(err, &e) {
		return ""
	}
	match := lineNumber.FindStringSubmatch(e.stderr)
	if match == nil {
		return ""
	}
	n, err := strconv.Atoi(match[1])
	lines := strings.Split(input, "\n")
	if err != nil || n < 1 || n > len(lines) || lines[n-1] == "COMMIT" {
		return ""
	}
	return lines[n-1]
}
