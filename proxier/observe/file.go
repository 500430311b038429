package observe

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// File is a file that a Sink writes records to. When it has grown to its size it becomes
// PATH.1, what was that becomes PATH.2, and so on. Whoever else moves or removes it, as
// logrotate does, needs to tell nobody: within a second it is made anew. Writing to a full
// disk fails, and goes on once there is room.
//
// It is safe for concurrent use.
type File struct {
	path  string
	size  int64 // at which it is rotated, 0: never
	files int   // that are kept beside it

	mu      sync.Mutex
	file    *os.File // nil if it could not be opened again
	now     int64    // its size
	regular bool     // and no device, say
	looked  time.Time
	unmoved error // why it could not be rotated, nil if it could; it grows meanwhile
	closed  bool
}

// FileSize and Files are usual for a File.
const (
	FileSize = 100 << 20
	Files    = 5
)

// fileMode is for its owner to write and for its group to read. A umask may allow less.
const fileMode = 0o640

// fileLook is how often it is looked whether somebody else has moved it.
const fileLook = time.Second

// OpenFile opens or makes the file, to append to it. It is rotated before it has more than
// size bytes, if that is not 0, and that many old files are kept beside it. What is no
// regular file, as a device, is neither rotated nor opened again.
func OpenFile(path string, size int64, files int) (*File, error) {
	f := &File{path: path, size: size, files: files}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// open does not wait for the reader of a named pipe.
func (f *File) open() error {
	f.looked = time.Now()
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, fileMode)
	if errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("open %s: it is a pipe that nobody reads", f.path)
	}
	if err != nil {
		return err // names the path
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	f.file, f.now, f.regular = file, info.Size(), info.Mode().IsRegular()
	return nil
}

// Write appends lines, all or none of them. It is that of io.Writer, but that all lines
// may have been written although there is an error: the file should be rotated, and cannot.
func (f *File) Write(lines []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.prepare(int64(len(lines))); err != nil {
		return 0, err
	}
	n, err := f.file.Write(lines)
	f.now += int64(n)
	if err != nil && n > 0 && f.takeBack(int64(n)) {
		n = 0
	}
	return n, cmp.Or(err, f.unmoved)
}

// prepare sees to it that the right file is open and has room for so many bytes more.
func (f *File) prepare(more int64) error {
	if f.closed {
		return os.ErrClosed
	}
	if time.Since(f.looked) >= fileLook {
		if err := f.look(); err != nil {
			return err
		}
	}
	if f.regular && f.size > 0 && f.now > 0 && f.now+more > f.size && f.unmoved == nil {
		f.unmoved = f.rotate()
	}
	if f.file == nil {
		return cmp.Or(f.unmoved, fmt.Errorf("%s could not be opened again", f.path))
	}
	return nil
}

// look opens the file again if it is not the one at the path any more, and sees whether
// somebody has emptied it.
func (f *File) look() error {
	f.looked, f.unmoved = time.Now(), nil
	if f.file == nil {
		return f.open()
	}
	if !f.regular {
		return nil
	}
	own, err := f.file.Stat()
	if err != nil {
		return err
	}
	f.now = own.Size()
	if there, err := os.Stat(f.path); err == nil && os.SameFile(own, there) {
		return nil
	}
	old := f.file
	if err := f.open(); err != nil {
		return err // there may be no folder for now
	}
	return old.Close()
}

// takeBack removes the part of a line that was written before the disk was full: what
// comes later would continue it.
func (f *File) takeBack(n int64) bool {
	if !f.regular {
		return false
	}
	info, err := f.file.Stat()
	if err != nil || f.file.Truncate(info.Size()-n) != nil {
		return false
	}
	f.now = info.Size() - n
	return true
}

// rotate begins a new file.
func (f *File) rotate() error {
	for n := f.files + 1; ; n++ { // from a time when more were kept
		if err := os.Remove(f.old(n)); err != nil {
			break
		}
	}
	for n := f.files - 1; n >= 0; n-- {
		if err := os.Rename(f.old(n), f.old(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if f.files == 0 {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f.file.Close()
	f.file = nil
	return f.open()
}

// old is the name of an old file; 0 is the present one.
func (f *File) old(n int) string {
	if n == 0 {
		return f.path
	}
	return f.path + "." + strconv.Itoa(n)
}

// Close closes it.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed = true; f.file == nil {
		return nil
	}
	return f.file.Close()
}

var _ io.WriteCloser = (*File)(nil)
