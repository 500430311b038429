package systemd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// maxFiles is how many file descriptors the kernel sends with one message (SCM_MAX_FD).
const maxFiles = 253

// Store has the manager keep duplicates of file descriptors, all of them under one name, and
// hand them to the next process of the service (see [Stored]). What is kept already is kept
// once, under its first name: it may be stored again. The manager keeps FileDescriptorStoreMax= of them at most,
// drops others without telling, and keeps them also when their peer is gone (FDPOLL=0).
//
// The names of all come back in one string of the environment, of which the kernel takes
// 128 KiB: names of thousands have to be short.
func Store(name string, fds ...int) error {
	if err := checkName(name); err != nil {
		return err
	}
	for some := range slices.Chunk(fds, maxFiles) {
		if err := send("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", some); err != nil {
			return fmt.Errorf("store %d files as %s with systemd: %w", len(some), name, err)
		}
	}
	return nil
}

// Remove has the manager close everything that it keeps under the name.
func Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := send("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
		return fmt.Errorf("remove the files %s from systemd: %w", name, err)
	}
	return nil
}

// checkName says what systemd would not take as a name (fdname_is_valid).
func checkName(name string) error {
	bad := func(r rune) bool { return r < ' ' || r >= 127 || r == ':' }
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("store files with systemd: the name %q is none: want 1 to 255 printable characters and no colon", name)
	}
	return nil
}

// Barrier waits until the manager has read all that it was sent before. To end earlier may
// cost what was stored: the manager looks up the unit of a message by its sender.
func Barrier(ctx context.Context) error {
	if !Listens() {
		return nil
	}
	// It closes its duplicate of one end when it is there, and the other end hears of it.
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	err = send("BARRIER=1", []int{int(theirs.Fd())})
	theirs.Close()
	if err != nil {
		return fmt.Errorf("await systemd: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { ours.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := ours.Read(make([]byte, 1)); ctx.Err() != nil && os.IsTimeout(err) {
		return fmt.Errorf("await systemd, which has not read what it was sent: %w", ctx.Err())
	}
	return nil // the end of the file
}
