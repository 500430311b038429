package observe

import (
	"net/netip"
	"strconv"
	"time"
)

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
	us := uint64(d / time.Microsecond)
	b = strconv.AppendUint(b, us/1000, 10)
	switch us %= 1000; {
	case us == 0:
		return b
	case us%100 == 0:
		return append(b, '.', byte('0'+us/100))
	case us%10 == 0:
		return append(b, '.', byte('0'+us/100), byte('0'+us/10%10))
	}
	return append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}
