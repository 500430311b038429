package wire

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"
)

// letter is a message with a field of each kind.
type letter struct {
	Number  uint64
	Signed  int64
	Yes     bool
	At      time.Time
	Data    []byte
	Text    string
	Address netip.AddrPort
	Inner   *letter
}

func (l *letter) append(w *Writer) {
	w.Uint(1, l.Number)
	w.Int(2, l.Signed)
	w.Bool(3, l.Yes)
	w.Time(4, l.At)
	w.Bytes(5, l.Data)
	w.String(6, l.Text)
	w.AddrPort(7, l.Address)
	if l.Inner != nil {
		w.Message(8, l.Inner.append)
	}
}

func (l *letter) read(r *Reader) error {
	for r.Next() {
		switch r.Field {
		case 1:
			l.Number = r.Uint()
		case 2:
			l.Signed = r.Int()
		case 3:
			l.Yes = r.Bool()
		case 4:
			l.At = r.Time()
		case 5:
			l.Data = bytes.Clone(r.Bytes())
		case 6:
			l.Text = r.String()
		case 7:
			l.Address = r.AddrPort()
		case 8:
			l.Inner = &letter{}
			r.Message(l.Inner.read)
		}
	}
	return r.Err
}

func (l *letter) equal(other *letter) bool {
	if l == nil || other == nil {
		return l == other
	}
	return l.Number == other.Number && l.Signed == other.Signed && l.Yes == other.Yes && l.At.Equal(other.At) &&
		bytes.Equal(l.Data, other.Data) && l.Text == other.Text && l.Address == other.Address && l.Inner.equal(other.Inner)
}

func full() *letter {
	return &letter{
		Number: math.MaxUint64, Signed: math.MinInt64, Yes: true, At: time.Unix(1_780_000_000, 123_456_789), Data: []byte{0, 1, 0xff},
		Text: "shop/cart", Address: netip.MustParseAddrPort("[fe80::1%eth0]:65535"),
		Inner: &letter{Signed: -1, Data: make([]byte, 100_000), Inner: &letter{}},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for name, want := range map[string]*letter{"nothing": {}, "everything": full(), "IPv4": {Address: netip.MustParseAddrPort("10.0.0.1:0")}} {
		var w Writer
		want.append(&w)
		got := &letter{}
		if err := got.read(NewReader(w.B)); err != nil || !got.equal(want) {
			t.Errorf("%s: %v: %+v, want %+v", name, err, got, want)
		}
	}
	var w Writer
	new(letter).append(&w)
	if len(w.B) > 0 {
		t.Errorf("nothing takes %d bytes", len(w.B))
	}
}

// A newer usher may write more, and an older one less.
func TestOtherVersions(t *testing.T) {
	var w Writer
	w.String(100, "new")
	full().append(&w)
	w.Message(101, func(w *Writer) { w.Uint(1, 5) })
	got := &letter{}
	if err := got.read(NewReader(w.B)); err != nil || !got.equal(full()) {
		t.Errorf("with unknown fields: %v: %+v", err, got)
	}
}

func TestBrokenMessages(t *testing.T) {
	var w Writer
	full().append(&w)
	for cut := 1; cut < 60; cut++ {
		if err := new(letter).read(NewReader(w.B[:len(w.B)-cut])); !errors.Is(err, ErrBroken) {
			t.Fatalf("without the last %d bytes: %v", cut, err)
		}
	}
	for name, write := range map[string]func(*Writer){
		"a text for a number":    func(w *Writer) { w.String(1, "seven") },
		"a number for a text":    func(w *Writer) { w.Uint(6, 7) },
		"no address":             func(w *Writer) { w.String(7, "abc") },
		"a broken inner message": func(w *Writer) { w.String(8, "\xff\xff") },
	} {
		var w Writer
		write(&w)
		if err := new(letter).read(NewReader(w.B)); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	var w Writer
	full().append(&w)
	f.Add(w.B[:200])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, message []byte) {
		var l letter
		if l.read(NewReader(message)) != nil {
			return
		}
		var w Writer
		l.append(&w)
		var again letter
		if err := again.read(NewReader(w.B)); err != nil || !again.equal(&l) {
			t.Errorf("%v: %+v, want %+v", err, again, l)
		}
	})
}
