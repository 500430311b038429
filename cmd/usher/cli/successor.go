package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/handover"
)

// successor is the program at the path that usher was started from, with the same command
// line: an upgrade puts it in the place of this process.
type successor struct {
	path string
	env  []string
	logs *logs
	// store has everything too in the moment of an Exec, for a crash; nil: nobody has.
	store *fdStore
}

// trialTime is how long a successor has to prove itself.
const trialTime = 5 * time.Second

// newSuccessor is called at the start: later another program may be at the path, and the
// directory that a relative path means may be another one.
func newSuccessor(l *logs) (*successor, error) {
	path, err := startedFrom()
	if err != nil {
		return nil, err
	}
	return &successor{path: path, env: os.Environ(), logs: l}, nil
}

// startedFrom is the path that this process was executed by, not the file that was there:
// /proc/self/exe goes with the file when another one takes its place.
func startedFrom() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return os.Executable()
	}
	return filepath.Abs(path)
}

// Try is that of proxier.Successor.
func (s *successor) Try(ctx context.Context, p handover.Parcel) error {
	return handover.Try(ctx, s.path, os.Args, s.env, p, trialTime)
}

// Exec is that of proxier.Successor. Messages that nobody has read yet would be lost.
func (s *successor) Exec(p handover.Parcel) error {
	s.logs.writer.Flush(lastMessages / 20)
	if s.store == nil {
		return handover.Exec(s.path, os.Args, s.env, p)
	}
	socket, err := handover.Post(p)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return s.store.during(socket, func() error {
		return handover.ExecPosted(s.path, os.Args, append(slices.Clone(s.env), storeEnv+"=1"), socket)
	})
}
