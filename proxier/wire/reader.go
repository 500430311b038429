package wire

import (
	"errors"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrBroken says that something is no message.
var ErrBroken = errors.New("the message is broken")

// Reader reads the fields of a message, one after the other. A field of another type than is
// asked for is an error.
type Reader struct {
	Field protowire.Number // that Next has found
	Err   error            // why there are no more; nil at the end of the message

	left  []byte
	kind  protowire.Type
	value []byte
}

// NewReader returns a Reader of a message, which must not change meanwhile.
func NewReader(message []byte) *Reader { return &Reader{left: message} }

// Next goes on to the next field, false if there is none.
func (r *Reader) Next() bool {
	if r.Err != nil || len(r.left) == 0 {
		return false
	}
	field, kind, n := protowire.ConsumeTag(r.left)
	if n < 0 {
		return r.fail()
	}
	size := protowire.ConsumeFieldValue(field, kind, r.left[n:])
	if size < 0 {
		return r.fail()
	}
	r.Field, r.kind, r.value = field, kind, r.left[n:n+size]
	r.left = r.left[n+size:]
	return true
}

func (r *Reader) fail() bool {
	r.Err = ErrBroken
	return false
}

// Uint is the field's number.
func (r *Reader) Uint() uint64 {
	if r.kind != protowire.VarintType {
		r.fail()
		return 0
	}
	v, _ := protowire.ConsumeVarint(r.value)
	return v
}

// Int is the field's number, which may be negative.
func (r *Reader) Int() int64 { return protowire.DecodeZigZag(r.Uint()) }

// Bool says whether it is so.
func (r *Reader) Bool() bool { return protowire.DecodeBool(r.Uint()) }

// Time is the field's time.
func (r *Reader) Time() time.Time {
	if n := r.Int(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Bytes are those of the message itself, not a copy.
func (r *Reader) Bytes() []byte {
	if r.kind != protowire.BytesType {
		r.fail()
		return nil
	}
	v, _ := protowire.ConsumeBytes(r.value)
	return v
}

// String is a text.
func (r *Reader) String() string { return string(r.Bytes()) }

// AddrPort is an address with its port.
func (r *Reader) AddrPort() (a netip.AddrPort) {
	if a.UnmarshalBinary(r.Bytes()) != nil {
		r.fail()
	}
	return a
}

// Message reads the message in the field. Its error is the Reader's.
func (r *Reader) Message(read func(*Reader) error) {
	in := NewReader(r.Bytes())
	if err := read(in); err != nil && r.Err == nil {
		r.Err = err
	}
}
