package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// logFile tries whether --log-file could be written, without making it.
func logFile(_ context.Context, n *node) Result {
	if n.LogFile == "" {
		return ok("none: records go to stderr")
	}
	err := mayAppend(n.LogFile)
	if err != nil {
		return fail(fmt.Sprintf("%s: %v", n.LogFile, err), "make its directory, let usher write there, or choose another --log-file")
	}
	return ok(n.LogFile)
}

// mayAppend asks the kernel whether the file, or one in its directory, may be written.
func mayAppend(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		path = filepath.Dir(path)
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return errors.New("it is a directory")
	}
	return unix.Access(path, unix.W_OK)
}
