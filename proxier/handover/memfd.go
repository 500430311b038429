package handover

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// seals keep a parcel as it is: nobody, its writer neither, can change it any more.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// pack writes a parcel into a sealed memfd (memfd_create(2)), which the caller owns.
func pack(p Parcel) (memfd int, err error) {
	if err := fits(uint64(len(p.Files)), uint64(len(p.State))); err != nil {
		return -1, err
	}
	lines := make([]line, len(p.Files))
	for i, fd := range p.Files {
		if lines[i], err = lineOf(fd); err != nil {
			return -1, err
		}
	}
	if err := distinct(lines); err != nil {
		return -1, err
	}
	memfd, err = newMemfd()
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err := errors.Join(write(memfd, head(lines, p.State)), write(memfd, p.State), seal(memfd)); err != nil {
		unix.Close(memfd)
		return -1, fmt.Errorf("write a parcel of %d bytes to memory: %w", len(p.State), err)
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

// unpack reads a parcel from a sealed memfd.
func unpack(memfd int) (lines []line, state []byte, err error) {
	has, err := unix.FcntlInt(uintptr(memfd), unix.F_GET_SEALS, 0)
	if err != nil || has&seals != seals {
		return nil, nil, fmt.Errorf("file %d is no sealed memfd", memfd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(memfd, &st); err != nil {
		return nil, nil, err
	}
	if st.Size > maxSize {
		return nil, nil, fmt.Errorf("the parcel has %d bytes, at most %d are possible", st.Size, maxSize)
	}
	b := make([]byte, st.Size)
	if err := readAt(memfd, b); err != nil {
		return nil, nil, fmt.Errorf("read the parcel: %w", err)
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
