package udp

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outgoing are datagrams to be sent by one socket, in order. Those of one size that
// go the same way one after the other become one message, which the kernel cuts
// into segments as late as it can (udp(7): UDP_SEGMENT): netfilter, routing and
// devices see it once.
type outgoing struct {
	n        int // datagrams
	vectors  [batchSize]unix.Iovec
	messages int
	runs     [batchSize]run
	headers  [batchSize]mmsghdr
}

// run are the datagrams of one message.
type run struct {
	way      *way
	first, n int  // of the vectors
	size     int  // of all but the last one, which may be smaller
	closed   bool // no other may follow
	control  [unix.SizeofCmsghdr + 24 + unix.SizeofCmsghdr + 8]byte
}

// maxSegment is the largest datagram that is sent with others. The kernel does not
// take segments that need more than one packet each.
const maxSegment = 1452

// maxMessage is the size of the largest UDP datagram of IPv4, which a message may have
// before it is cut.
const maxMessage = 65507

// add adds the datagram in a slot of a batch.
func (o *outgoing) add(b *batch, slot int, to *way) {
	size := int(b.headers[slot].length)
	o.vectors[o.n].Base = b.vectors[slot].Base
	o.vectors[o.n].SetLen(size)
	o.n++
	if o.messages > 0 {
		if last := &o.runs[o.messages-1]; last.takes(size, to) {
			last.n++
			last.closed = size < last.size
			return
		}
	}
	r := &o.runs[o.messages]
	r.way, r.first, r.n, r.size = to, o.n-1, 1, size
	r.closed = to.whole || size == 0 || size > maxSegment
	o.messages++
}

func (r *run) takes(size int, to *way) bool {
	return !r.closed && r.way == to && size > 0 && size <= r.size && (r.n+1)*r.size <= maxMessage
}

// send sends all and tells failed of each datagram that could not be, by its number;
// it returns how many went. If failed returns false the rest stays where it is.
// Afterwards nothing is left.
func (o *outgoing) send(fd int, failed func(i int, err error) bool) (sent int) {
	defer o.clear()
	for i := range o.messages {
		o.address(i)
	}
	again := -1
	for i := 0; i < o.messages; {
		n, err := transfer(unix.SYS_SENDMMSG, fd, o.headers[i:o.messages])
		for range n {
			sent += o.runs[i].n
			i++
		}
		switch {
		case err == nil: // what ended it early is told of the next message
		case err == unix.EMSGSIZE && again != i:
			again = i // it may be about a datagram that was sent before
		case o.runs[i].n > 1 && !isUnreachable(err):
			o.cut(i)
		case !failed(o.runs[i].first, err):
			return sent
		default:
			i = o.skip(i)
		}
	}
	return sent
}

// cut makes messages of one datagram each of one that the kernel did not take as a
// whole.
func (o *outgoing) cut(i int) {
	r := o.runs[i]
	r.way.whole = true
	copy(o.runs[i+r.n:], o.runs[i+1:o.messages])
	o.messages += r.n - 1
	for k := range r.n {
		o.runs[i+k] = run{way: r.way, first: r.first + k, n: 1}
	}
	for k := i; k < o.messages; k++ {
		o.address(k)
	}
}

// skip leaves the first datagram of a message out, and returns the message to go on
// with.
func (o *outgoing) skip(i int) int {
	r := &o.runs[i]
	if r.n == 1 {
		return i + 1
	}
	r.first, r.n = r.first+1, r.n-1
	o.address(i)
	return i
}

// address fills in the header of a message.
func (o *outgoing) address(i int) {
	r, h := &o.runs[i], &o.headers[i].header
	*h = unix.Msghdr{Iov: &o.vectors[r.first]}
	h.SetIovlen(r.n)
	if r.way.nameLen > 0 {
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&r.way.name)), r.way.nameLen
	}
	length := copy(r.control[:], r.way.control[:r.way.length])
	if r.n > 1 {
		length += segments(r.control[length:], r.size)
	}
	if length > 0 {
		h.Control = &r.control[0]
		h.SetControllen(length)
	}
}

// segments writes the control message that asks for segments of a size, and returns
// how long it is.
func segments(control []byte, size int) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.SizeofCmsghdr:], uint16(size))
	return unix.CmsgSpace(2)
}

// clear keeps nothing alive that is not needed any more.
func (o *outgoing) clear() {
	for i := range o.messages {
		o.runs[i].way = nil
		o.headers[i].header = unix.Msghdr{}
	}
	o.n, o.messages = 0, 0
}
