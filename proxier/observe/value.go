package observe

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
)

// value is what a record says in a field.
type value struct {
	kind   kind
	text   string // of a time: its layout
	number int64  // of a duration: nanoseconds; of yes: 1
	addr   *netip.AddrPort
	at     *time.Time
	record *Record // whose ID, start, endpoint, attempts or sockets are meant
}

type kind uint8

const (
	kindNone kind = iota // the record does not have the field
	kindNumber
	kindMilliseconds
	kindYes
	kindAttempts
	kindTCPClient
	kindTCPBackend
	// All others are text.
	kindText
	kindIP
	kindAddrPort
	kindID
	kindStart
	kindBackendIP
	// Of these the record knows nothing: value.ask.
	kindTime
	kindLevel
	kindMessage
)

func text(s string) value { return value{kind: kindText, text: s} }

func unlessEmpty(s string) value {
	if s == "" {
		return value{}
	}
	return text(s)
}

// tcpInfo is that of a socket, if there is any.
func tcpInfo(what kind, of *Record) value {
	v := value{kind: what, record: of}
	if v.info() == nil {
		return value{}
	}
	return v
}

func (v *value) info() *TCPInfo {
	if v.kind == kindTCPClient {
		return v.record.Sockets.Client
	}
	return v.record.Sockets.Backend
}

func number[T int | int32 | int64 | uint8 | uint16](n T) value {
	return value{kind: kindNumber, number: int64(n)}
}

func milliseconds(d time.Duration) value { return value{kind: kindMilliseconds, number: int64(d)} }

func yes(b bool) value {
	v := value{kind: kindYes}
	if b {
		v.number = 1
	}
	return v
}

func ip(of *netip.AddrPort) value { return value{kind: kindIP, addr: of} }

// ask gets the value from the entry, if that is who knows.
func (v *value) ask(e *logrus.Entry, layout string) {
	switch v.kind {
	case kindTime:
		v.at, v.text = &e.Time, layout
	case kindLevel:
		v.text = e.Level.String()
	case kindMessage:
		v.text = e.Message
	}
}

func addrPort(a *netip.AddrPort) value { return value{kind: kindAddrPort, addr: a} }

// any is the value as an ordinary one.
func (v *value) any() any {
	switch v.kind {
	case kindNumber:
		return v.number
	case kindMilliseconds:
		return inMilliseconds(time.Duration(v.number))
	case kindYes:
		return v.number == 1
	case kindAttempts:
		return attempts(v.record.Attempts)
	case kindTCPClient, kindTCPBackend:
		return v.info()
	case kindText:
		return v.text
	}
	return string(v.appendText(nil))
}

// isBare says whether the value is one that no line has in quotes.
func (v *value) isBare() bool {
	return v.kind == kindNumber || v.kind == kindMilliseconds || v.kind == kindYes
}

// appendBare appends it; large numbers of milliseconds are in a format of strconv.
func (v *value) appendBare(b []byte, format byte) []byte {
	switch v.kind {
	case kindMilliseconds:
		return appendMilliseconds(b, time.Duration(v.number), format)
	case kindYes:
		return strconv.AppendBool(b, v.number == 1)
	}
	return strconv.AppendInt(b, v.number, 10)
}

// appendText appends what is text, as it is.
func (v *value) appendText(b []byte) []byte {
	switch v.kind {
	case kindIP:
		return appendIP(b, v.addr.Addr())
	case kindBackendIP:
		return appendIP(b, v.record.Backend().Addr.Addr())
	case kindID:
		return v.record.appendID(b)
	case kindAddrPort:
		return appendAddrPort(b, *v.addr)
	case kindStart:
		return v.record.Start.UTC().AppendFormat(b, time.RFC3339Nano)
	case kindTCPClient, kindTCPBackend:
		return append(b, v.info().String()...)
	case kindTime:
		return v.at.AppendFormat(b, v.text)
	}
	return append(b, v.text...)
}

func appendIP(b []byte, a netip.Addr) []byte {
	if a.IsValid() {
		return a.AppendTo(b)
	}
	return append(b, a.String()...) // which says that it is none
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	if a.IsValid() {
		return a.AppendTo(b)
	}
	return append(b, a.String()...)
}

func inMilliseconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return float64(d.Microseconds()) / 1000
}

// appendMilliseconds appends what strconv.AppendFloat does. It goes by integers, as a
// record has many times. Above its limit a text has an exponent, JSON has none.
func appendMilliseconds(b []byte, d time.Duration, format byte) []byte {
	const limit = 1_000_000 * time.Millisecond
	switch {
	case d < 0:
		return append(b, "-1"...)
	case d >= limit:
		return strconv.AppendFloat(b, inMilliseconds(d), format, -1, 64)
	}
	us := d.Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	if us %= 1000; us == 0 {
		return b
	}
	b = append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}
