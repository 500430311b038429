package handover

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Received is the Parcel that this process was started with, by Exec or in a trial,
// nil if there is none. The environment does not tell of it any more afterwards, so it
// is there once. To be called before anything else starts a process or opens files.
//
// A broken one is an error. The files of it that can be told are closed then: those
// that are what the Parcel says.
func Received() (*Parcel, error) {
	if t := inherited(); t != nil {
		return t.receive()
	}
	memfd, told, err := takeEnv(execEnv)
	if err != nil || !told {
		return nil, err
	}
	p, err := inheritedBy(memfd)
	if err != nil {
		return nil, fmt.Errorf("hand-over by exec (%s=%d): %w", execEnv, memfd, err)
	}
	return p, nil
}

// inheritedBy reads a Parcel whose files this process has under the numbers that they
// had in the last one.
func inheritedBy(memfd int) (*Parcel, error) {
	lines, state, err := unpack(memfd)
	if err != nil {
		return nil, err
	}
	unix.Close(memfd) // unpack has seen that it is ours
	p := &Parcel{State: state, Files: make([]int, 0, len(lines))}
	missing := 0
	for _, l := range lines {
		if l.fd == memfd || !l.is(l.fd) {
			missing++
			continue
		}
		p.Files = append(p.Files, l.fd)
	}
	if err = setCloexec(p.Files, true); err == nil && missing > 0 {
		err = fmt.Errorf("%d of %d files are missing, or are not what they were", missing, len(lines))
	}
	if err != nil {
		closeAll(p.Files)
		return nil, err
	}
	return p, nil
}

// takeEnv reads the number of a file from a variable and removes that.
func takeEnv(name string) (fd int, told bool, err error) {
	text, told := os.LookupEnv(name)
	if !told {
		return -1, false, nil
	}
	os.Unsetenv(name)
	fd, err = strconv.Atoi(text)
	if err != nil || fd < firstFile {
		return -1, true, fmt.Errorf("%s=%q is not the number of a file: unset it", name, text)
	}
	return fd, true, nil
}
