package udp

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one system call moves at most.
	batchSize = 64
	// slotSize has room for every datagram: a UDP length field ends at 65,535.
	slotSize = 1 << 16
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32 // of the datagram
}

// batch is room for some datagrams, and what one system call needs to move
// them. One goroutine uses it, again and again: nothing is allocated for a
// datagram.
type batch struct {
	headers  [batchSize]mmsghdr
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6
	controls [batchSize]control
	room     []byte // batchSize slots; the kernel gives it pages only where it is used
}

func newBatch() *batch {
	b := &batch{}
	b.room = reserve(b)
	for i := range batchSize {
		b.vectors[i].Base = &b.room[i*slotSize]
		b.headers[i].header.Iov = &b.vectors[i]
		b.headers[i].header.SetIovlen(1)
	}
	return b
}

// reserve returns the room of a batch, for as long as there is the batch. It is not from
// the heap, which would count all of it although little is ever used.
func reserve(b *batch) []byte {
	room, err := unix.Mmap(-1, 0, batchSize*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, batchSize*slotSize)
	}
	runtime.AddCleanup(b, func(room []byte) { unix.Munmap(room) }, room)
	return room
}

// receive fills the slots from first on with at most n datagrams that wait in a
// socket. With addressed it also finds out where each comes from and went to.
func (b *batch) receive(fd, first, n int, addressed bool) (int, error) {
	for i := first; i < first+n; i++ {
		h := &b.headers[i].header
		b.vectors[i].SetLen(slotSize)
		h.Name, h.Namelen, h.Control = nil, 0, nil
		h.SetControllen(0)
		if addressed {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet6
			h.Control = &b.controls[i][0]
			h.SetControllen(len(b.controls[i]))
		}
	}
	return transfer(unix.SYS_RECVMMSG, fd, b.headers[first:first+n])
}

// datagram is what was received into a slot.
func (b *batch) datagram(i int) []byte { return b.room[i*slotSize:][:b.headers[i].length] }

// bytes is the size of all datagrams in some slots.
func (b *batch) bytes(slots []int) (n int) {
	for _, i := range slots {
		n += int(b.headers[i].length)
	}
	return n
}

// transfer is recvmmsg(2) or sendmmsg(2) of a socket that never blocks. The
// runtime need not know of it: it takes no longer than the bytes do.
func transfer(call uintptr, fd int, headers []mmsghdr) (int, error) {
	if h := &headers[0]; len(headers) == 1 && h.header.Name == nil && h.header.Control == nil && h.header.Iovlen == 1 {
		return single(call, fd, h)
	}
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(headers)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// single is transfer for one datagram of a connected socket: there is a shorter way
// through the kernel.
func single(call uintptr, fd int, h *mmsghdr) (int, error) {
	if call == unix.SYS_RECVMMSG {
		call = unix.SYS_RECVFROM
	} else {
		call = unix.SYS_SENDTO
	}
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(h.header.Iov.Base)), uintptr(h.header.Iov.Len), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(h)
		switch errno {
		case 0:
			h.length = uint32(n)
			return 1, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
