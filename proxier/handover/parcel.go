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
	Files []int  // file descriptors, in any order; whoever makes the Parcel owns them, on receiving the receiver does
}

const (
	maxState = 256 << 20
	maxFiles = 1 << 20 // what a process may have (fs.nr_open) unless somebody raised it
)

// A state is written after a header, with all numbers in little endian:
//
//	magic    [8]byte
//	version  uint32
//	checksum uint32  CRC-32C of all that follows
//	files    uint64  how many go along
//	state    uint64  its length
const (
	magic      = "usherhnd"
	version    = 1
	checked    = 16 // the checksum is of what follows this
	headerSize = 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header returns what precedes the state.
func header(files int, state []byte) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(files))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(state)))
	sum := crc32.Update(crc32.Checksum(b[checked:], castagnoli), castagnoli, state)
	binary.LittleEndian.PutUint32(b[checked-4:], sum)
	return b
}

// decode takes apart what begins with a header. The state is a part of b.
func decode(b []byte) (files int, state []byte, err error) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(magic)) {
		return 0, nil, errors.New("this is no state of usher's")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return 0, nil, fmt.Errorf("the parcel's format has version %d, known is %d", v, version)
	}
	n, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	if err := fits(n, size); err != nil {
		return 0, nil, err
	}
	state = b[headerSize:]
	if uint64(len(state)) != size {
		return 0, nil, fmt.Errorf("the state has %d bytes of %d", len(state), size)
	}
	if crc32.Checksum(b[checked:], castagnoli) != binary.LittleEndian.Uint32(b[checked-4:]) {
		return 0, nil, errors.New("the checksum of the state is wrong")
	}
	return int(n), state, nil
}

func fits(files, state uint64) error {
	if files > maxFiles {
		return fmt.Errorf("the parcel has %d files, at most %d are possible", files, maxFiles)
	}
	if state > maxState {
		return fmt.Errorf("the state has %d bytes, at most %d are possible", state, maxState)
	}
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
