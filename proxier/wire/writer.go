package wire

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Writer appends the fields of a message. The zero value is an empty one.
type Writer struct{ B []byte }

// Uint writes a number.
func (w *Writer) Uint(field protowire.Number, v uint64) {
	if v != 0 {
		w.B = protowire.AppendVarint(protowire.AppendTag(w.B, field, protowire.VarintType), v)
	}
}

// Int writes a number that may be negative.
func (w *Writer) Int(field protowire.Number, v int64) { w.Uint(field, protowire.EncodeZigZag(v)) }

// Bool writes whether something is so.
func (w *Writer) Bool(field protowire.Number, v bool) { w.Uint(field, protowire.EncodeBool(v)) }

// Time writes a time of day, with nanoseconds, between the years 1678 and 2262.
func (w *Writer) Time(field protowire.Number, t time.Time) {
	if !t.IsZero() {
		w.Int(field, t.UnixNano())
	}
}

// Bytes writes bytes, and String a text.
func (w *Writer) Bytes(field protowire.Number, v []byte) {
	if len(v) > 0 {
		w.B = protowire.AppendBytes(protowire.AppendTag(w.B, field, protowire.BytesType), v)
	}
}

// String is Bytes of a text.
func (w *Writer) String(field protowire.Number, v string) {
	if v != "" {
		w.B = protowire.AppendString(protowire.AppendTag(w.B, field, protowire.BytesType), v)
	}
}

// AddrPort writes an address with its port.
func (w *Writer) AddrPort(field protowire.Number, a netip.AddrPort) {
	if a != (netip.AddrPort{}) {
		var room [64]byte
		b, _ := a.AppendBinary(room[:0]) // which cannot fail
		w.Bytes(field, b)
	}
}

// lengthSize is the room for the length of a message, which is only known behind it.
const lengthSize = 5

// Message writes a message that others write the fields of, up to 4 GiB. It is there also
// if it is empty.
func (w *Writer) Message(field protowire.Number, fields func(*Writer)) {
	w.B = protowire.AppendTag(w.B, field, protowire.BytesType)
	at := len(w.B)
	w.B = append(w.B, make([]byte, lengthSize)...)
	fields(w)
	n := uint64(len(w.B) - at - lengthSize)
	for i := range lengthSize - 1 { // a varint of that size, whatever it is
		w.B[at+i] = byte(n) | 0x80
		n >>= 7
	}
	w.B[at+lengthSize-1] = byte(n)
}
