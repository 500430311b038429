package handover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"
)

// Parcel is what goes from one process to the next: a state, as bytes, and the files
// that it speaks of.
type Parcel struct {
	State []byte // at most 256 MiB
	Files []int  // file descriptors from 3, each once; whoever makes the Parcel owns them, on receiving the receiver does
}

const (
	maxState = 256 << 20
	maxFiles = 1 << 20 // what a process may have (fs.nr_open) unless somebody raised it
)

// A parcel is written as a header, a line for each file, and the state, all numbers
// in little endian:
//
//	magic    [8]byte
//	version  uint32
//	checksum uint32  CRC-32C of all that follows
//	state    uint64  its length
//	files    uint64  how many
//	of each file: its number, st_dev and st_ino, uint64 each
//	the state
const (
	magic      = "usherhnd"
	version    = 1
	headerSize = 32
	lineSize   = 24
	checked    = 16 // the checksum is of what follows this
	maxSize    = headerSize + maxFiles*lineSize + maxState
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is what a parcel says of a file. A number may by now be another file's, or
// none's; what fstat(2) tells of a file is the same in every process.
type line struct {
	fd       int // in the process that made the parcel
	dev, ino uint64
}

func lineOf(fd int) (line, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return line{}, fmt.Errorf("file %d: %w", fd, err)
	}
	return line{fd, uint64(st.Dev), st.Ino}, nil
}

// is says whether fd is the file that l speaks of.
func (l line) is(fd int) bool {
	now, err := lineOf(fd)
	return err == nil && now.dev == l.dev && now.ino == l.ino
}

// head returns what precedes the state.
func head(lines []line, state []byte) []byte {
	b := make([]byte, 0, headerSize+len(lines)*lineSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(state)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(lines)))
	for _, l := range lines {
		b = binary.LittleEndian.AppendUint64(b, uint64(l.fd))
		b = binary.LittleEndian.AppendUint64(b, l.dev)
		b = binary.LittleEndian.AppendUint64(b, l.ino)
	}
	sum := crc32.Update(crc32.Checksum(b[checked:], castagnoli), castagnoli, state)
	binary.LittleEndian.PutUint32(b[checked-4:], sum)
	return b
}

// decode takes a parcel apart. The state is a part of b.
func decode(b []byte) (lines []line, state []byte, err error) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, nil, errors.New("this is no parcel of usher's")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return nil, nil, fmt.Errorf("the parcel's format has version %d, known is %d", v, version)
	}
	size, files := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	if err := fits(files, size); err != nil {
		return nil, nil, err
	}
	if want := headerSize + files*lineSize + size; uint64(len(b)) != want {
		return nil, nil, fmt.Errorf("the parcel has %d bytes of %d", len(b), want)
	}
	if crc32.Checksum(b[checked:], castagnoli) != binary.LittleEndian.Uint32(b[checked-4:]) {
		return nil, nil, errors.New("the parcel's checksum is wrong")
	}
	state = b[headerSize+files*lineSize:]
	lines = make([]line, files)
	for i := range lines {
		l := b[headerSize+i*lineSize:]
		lines[i] = line{int(binary.LittleEndian.Uint64(l)), binary.LittleEndian.Uint64(l[8:]), binary.LittleEndian.Uint64(l[16:])}
	}
	return lines, state, distinct(lines)
}

func fits(files, state uint64) error {
	if files > maxFiles {
		return fmt.Errorf("the parcel has %d files, at most %d are possible", files, maxFiles)
	}
	if state > maxState {
		return fmt.Errorf("the parcel's state has %d bytes, at most %d are possible", state, maxState)
	}
	return nil
}

// distinct says no to a file that is there twice, which two owners would close, and
// to stdin, stdout and stderr, which are nobody's.
func distinct(lines []line) error {
	seen := make(map[int]bool, len(lines))
	for _, l := range lines {
		if l.fd < firstFile || int(int32(l.fd)) != l.fd || seen[l.fd] {
			return fmt.Errorf("file %d cannot be in a parcel, or is in it twice", l.fd)
		}
		seen[l.fd] = true
	}
	return nil
}

// firstFile is the number of the first file after stdin, stdout and stderr.
const firstFile = 3

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
