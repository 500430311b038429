package udp

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"
)

// In one message are datagrams of one size that go the same way, and at the end one
// that is smaller.
func TestWhatBecomesOneMessage(t *testing.T) {
	a, b, whole := new(way), new(way), &way{whole: true}
	type datagram struct {
		size int
		to   *way
	}
	same := func(size, n int, to *way) []datagram { return slices.Repeat([]datagram{{size, to}}, n) }
	for name, c := range map[string]struct {
		datagrams []datagram
		want      []int // datagrams of each message
	}{
		"one":                {same(100, 1, a), []int{1}},
		"several":            {same(100, 5, a), []int{5}},
		"the last smaller":   {append(same(100, 2, a), same(60, 2, a)...), []int{3, 1}},
		"a larger one":       {append(same(100, 2, a), same(101, 2, a)...), []int{2, 2}},
		"two ways":           {append(same(100, 2, a), same(100, 2, b)...), []int{2, 2}},
		"in turns":           {[]datagram{{9, a}, {9, b}, {9, a}}, []int{1, 1, 1}},
		"empty ones":         {append(same(9, 2, a), same(0, 2, a)...), []int{2, 1, 1}},
		"empty at first":     {append(same(0, 1, a), same(9, 2, a)...), []int{1, 2}},
		"largest":            {same(maxSegment, 3, a), []int{3}},
		"too large":          {same(maxSegment+1, 3, a), []int{1, 1, 1}},
		"all that fit":       {same(maxSegment, 46, a), []int{45, 1}},
		"that did not work":  {same(100, 3, whole), []int{1, 1, 1}},
		"a batch of as many": {same(1, batchSize, a), []int{batchSize}},
	} {
		in, o := newBatch(), &outgoing{}
		for i, d := range c.datagrams {
			in.headers[i].length = uint32(d.size)
			o.add(in, i, d.to)
		}
		var got []int
		next := 0
		for _, r := range o.runs[:o.messages] {
			if r.first != next {
				t.Errorf("%s: a message begins with datagram %d, not %d", name, r.first, next)
			}
			next += r.n
			got = append(got, r.n)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: messages of %v datagrams, want %v", name, got, c.want)
		}
	}
}

// burst are the sizes of datagrams that come together.
var burst = slices.Concat(slices.Repeat([]int{100}, 5), []int{60, 100, 100, 0, 0, 1},
	slices.Repeat([]int{1452}, 3), slices.Repeat([]int{1453}, 2), []int{9000, 9000, 30000, 1452}, slices.Repeat([]int{512}, 10))

// send sends datagrams of these sizes while the loops stand still, and wants them
// back whole and in order.
func (c *client) echoes(t *testing.T, l *lab, sizes []int) {
	t.Helper()
	release := l.hold()
	var want []string
	for _, size := range sizes {
		datagram := noise(size)
		want = append(want, datagram)
		c.send(datagram)
	}
	release()
	for i, w := range want {
		if got := c.hear(); got != w {
			t.Fatalf("datagram %d of %d bytes comes back as %d others", i, len(w), len(got))
		}
	}
	l.settle()
	if l.dropped() != "" {
		t.Errorf("drops %q", l.dropped())
	}
}

func TestBurstsPassWholeAndInOrder(t *testing.T) {
	eachFamily(t, func(t *testing.T, loopback string) {
		l := newLab(t, setup{addr: loopback})
		l.serve(echo(t, loopback).addr)
		c := l.client()
		for range 3 {
			c.echoes(t, l, burst)
		}
		if in, out := l.passed(); in != 3*len(burst) || out != in {
			t.Errorf("%d in and %d out are counted, of %d", in, out, 3*len(burst))
		}
	})
}

// A link with small packets does not take segments of 1,400 bytes: they go singly.
func TestBurstsOverALinkThatDoesNotTakeThem(t *testing.T) {
	for _, c := range []struct{ family, ours, theirs string }{
		{"IPv4", "192.0.2.1", "192.0.2.2"},
		{"IPv6", "2001:db8:2::1", "2001:db8:2::2"},
	} {
		t.Run(c.family, func(t *testing.T) {
			n := newNeighbour(t, "far", [2]string{"192.0.2.1/24", "192.0.2.2/24"}, [2]string{"2001:db8:2::1/64", "2001:db8:2::2/64"})
			n.Run("ip", "link", "set", n.name, "mtu", "1280")
			if out, err := exec.Command("ip", "link", "set", n.device, "mtu", "1280").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			conn := n.ListenUDP(netip.AddrPortFrom(netip.MustParseAddr(c.theirs), 0))
			b := newBackend(t, conn, func(b []byte) []byte { return b })
			l := newLab(t, setup{addr: c.ours})
			l.serve(b.addr)
			sizes := append(slices.Repeat([]int{1400}, 6), slices.Repeat([]int{200}, 6)...)
			client := n.dial(t, l.socket.Addr()) // both ways go over the link
			for range 2 {
				client.echoes(t, l, sizes)
			}
			l.settle()
			l.relay.loops[0].do(func() {
				for _, f := range l.relay.loops[0].files {
					if s, ok := f.(*session); ok && (!s.there.whole || !s.back.whole) {
						t.Error("segments are tried again and again")
					}
				}
			})
		})
	}
}
