package laststate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// suffix is that of the file that is being written.
const suffix = ".new"

// Write makes the file at path that of a state of o, and returns its size in bytes. Only its
// owner may read it. If that fails, what was there before stays, as does anything else than
// a last state.
func Write(path string, o Owner, s State) (size int64, err error) {
	if err := replaceable(path); err != nil {
		return 0, err
	}
	unfinished := path + suffix
	// What a crash has left, or somebody else has put there, is not written to.
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	f, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			os.Remove(unfinished)
		}
	}()
	out := &counter{w: f}
	if err := errors.Join(encode(out, o, s), f.Sync(), f.Close()); err != nil {
		return 0, firstOf(err)
	}
	if err := os.Rename(unfinished, path); err != nil {
		return 0, err
	}
	return out.n, syncFolder(filepath.Dir(path))
}

// replaceable refuses what somebody needs who named the wrong file.
func replaceable(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, len(firstLine))
	if n, err := io.ReadFull(f, begin); n > 0 && string(begin) != firstLine || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s holds something else than a last state of usher: name another file, or remove it", path)
	}
	return nil
}

// firstOf is the first of joined errors: the others follow from it.
func firstOf(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()[0]
	}
	return err
}

// syncFolder has the new name outlive a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// counter bounds what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n+int64(len(p)) > maxFile {
		return 0, fmt.Errorf("there is more than a file may hold, %d MiB", maxFile>>20)
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Read returns the state of o that is in the file at path. The error is fs.ErrNotExist if
// there is none, and else says why it cannot be used.
func Read(path string, o Owner) (State, error) {
	// A FIFO would be waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	if err := usable(info); err != nil {
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	s, err := decode(f, o, maxStream)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// usable says what is wrong with a file without reading it.
func usable(info fs.FileInfo) error {
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is no regular file (%s)", info.Mode())
	case info.Size() > maxFile:
		return fmt.Errorf("it has %d MiB, and a last state at most %d", info.Size()>>20, maxFile>>20)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others than its owner may write it (%s), and so say where connections go; chmod go-w", info.Mode().Perm())
	case known && owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to the user %d, who could say where connections go; it has to be root or that of usher", owner.Uid)
	}
	return nil
}
