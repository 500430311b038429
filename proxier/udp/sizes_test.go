package udp

import (
	"math/rand/v2"
	"testing"
)

// sizes are those of the datagrams that a network has to carry, up to the largest
// that the protocol allows.
var sizes = []int{0, 1, 512, 1232, 1472, 9000, 65507}

func TestDatagramsOfAllSizesPassWhole(t *testing.T) {
	eachFamily(t, func(t *testing.T, loopback string) {
		l := newLab(t, setup{addr: loopback})
		l.serve(echo(t, loopback).addr)
		c := l.client()
		total := 0
		for _, size := range sizes {
			want := noise(size)
			if got := c.ask(want); got != want {
				t.Errorf("%d bytes come back as %d others", size, len(got))
			}
			total += size
		}
		l.settle()
		if l.in != len(sizes) || l.out != len(sizes) || l.bytesIn != total || l.bytesOut != total || l.dropped() != "" {
			t.Errorf("counted %d in, %d out, %d and %d bytes, drops %q; sent %d with %d bytes",
				l.in, l.out, l.bytesIn, l.bytesOut, l.dropped(), len(sizes), total)
		}
		l.close("")
		if s := l.ended()[0]; s.In != int64(len(sizes)) || s.Out != s.In || s.BytesIn != int64(total) || s.BytesOut != s.BytesIn || s.Dropped != 0 {
			t.Errorf("the session tells %+v", s)
		}
	})
}

// In IPv6 the header does not count, so 20 bytes more are possible.
func TestTheLargestDatagramOfIPv6(t *testing.T) {
	l := newLab(t, setup{addr: "::1"})
	l.serve(echo(t, "::1").addr)
	want := noise(65527)
	if got := l.client().ask(want); got != want {
		t.Errorf("%d bytes come back", len(got))
	}
}

func noise(size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}
