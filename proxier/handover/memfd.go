package handover

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// seals keep a state as it is: nobody, its writer neither, can change it any more.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Write writes a state, which no files go along with, into a sealed memfd, which the caller
// owns.
func Write(state []byte) (memfd int, err error) { return pack(Parcel{State: state}) }

// Read is what Write has written. The file stays the caller's.
func Read(memfd int) (state []byte, err error) {
	_, state, err = unpack(memfd)
	return state, err
}

// pack writes a Parcel's state into a sealed memfd (memfd_create(2)), which the caller
// owns.
func pack(p Parcel) (memfd int, err error) {
	if err := fits(uint64(len(p.Files)), uint64(len(p.State))); err != nil {
		return -1, err
	}
	memfd, err = newMemfd()
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err := errors.Join(write(memfd, header(len(p.Files), p.State)), write(memfd, p.State), seal(memfd)); err != nil {
		unix.Close(memfd)
		return -1, fmt.Errorf("write a state of %d bytes to memory: %w", len(p.State), err)
	}
	return memfd, nil
}

// newMemfd asks for MFD_NOEXEC_SEAL, without which vm.memfd_noexec=2 allows none.
// Kernels before 6.3 do not know it.
func newMemfd() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	memfd, err := unix.MemfdCreate("usher-handover", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		memfd, err = unix.MemfdCreate("usher-handover", flags)
	}
	return memfd, err
}

func seal(memfd int) error {
	_, err := unix.FcntlInt(uintptr(memfd), unix.F_ADD_SEALS, seals)
	return err
}

// unpack reads a state from a sealed memfd, and how many files go along.
func unpack(memfd int) (files int, state []byte, err error) {
	has, err := unix.FcntlInt(uintptr(memfd), unix.F_GET_SEALS, 0)
	if err != nil || has&seals != seals {
		return 0, nil, errors.New("the state is not in a sealed memfd")
	}
	var st unix.Stat_t
	if err := unix.Fstat(memfd, &st); err != nil {
		return 0, nil, err
	}
	if st.Size > headerSize+maxState {
		return 0, nil, fmt.Errorf("the state has %d bytes, at most %d are possible", st.Size, maxState)
	}
	b := make([]byte, st.Size)
	if err := readAt(memfd, b); err != nil {
		return 0, nil, fmt.Errorf("read the state: %w", err)
	}
	return decode(b)
}

func write(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// readAt reads from the start of a file, wherever another process has read to.
func readAt(fd int, b []byte) error {
	for at := 0; at < len(b); {
		n, err := unix.Pread(fd, b[at:], int64(at))
		if err != nil && err != unix.EINTR {
			return err
		}
		if n == 0 && err == nil {
			return io.ErrUnexpectedEOF
		}
		at += max(n, 0)
	}
	return nil
}
