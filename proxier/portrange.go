package proxier

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/usher-proxy/usher/iptables"
)

// PortRange are the ports that listeners for redirected traffic may have, both
// ends included.
type PortRange struct{ First, Last uint16 }

// ParsePortRange reads "11000-29999".
func ParsePortRange(text string) (PortRange, error) {
	first, last, _ := strings.Cut(text, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || a == 0 || a > b {
		return PortRange{}, fmt.Errorf("port range %q: want FIRST-LAST, with 1 <= FIRST <= LAST <= 65535", text)
	}
	return PortRange{uint16(a), uint16(b)}, nil
}

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// portTable remembers which ServicePort (by its name in the rules) has which
// port of the range; one table a family. It belongs to the reconcile loop.
type portTable struct {
	PortRange
	owners map[uint16]iptables.Key
	lowest int // no port below is free
	// released is when ports were given up, of those that are free.
	released map[uint16]time.Time
	// Until forgetLast, what each ServicePort had before this process started,
	// as its predecessor's rules say: connections on their way find the same.
	last     map[iptables.Key]uint16
	reserved map[uint16]iptables.Key // last, the other way round
}

func newPortTable(r PortRange, last map[iptables.Key]uint16) *portTable {
	t := &portTable{PortRange: r, owners: map[uint16]iptables.Key{}, released: map[uint16]time.Time{}, lowest: int(r.First),
		last: last, reserved: map[uint16]iptables.Key{}}
	for name, port := range last {
		t.reserved[port] = name
	}
	return t
}

// rest is for how long a port is left alone when it was given up. Connection
// tracking remembers the connections to it for two minutes: a client that comes to
// another address from the same port would have to get another one, and sometimes
// its first packet is lost over that.
const rest = 2 * time.Minute

// candidates yields the ports that name may try, best first: the one it had, then
// the free ones from the lowest on, then those that were given up lately, the
// first of them first.
func (t *portTable) candidates(name iptables.Key) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		had, ok := t.last[name]
		if ok && t.free(had) && !yield(had) {
			return
		}
		var resting []uint16
		for port := t.lowest; port <= int(t.Last); port++ {
			p := uint16(port)
			_, isReserved := t.reserved[p]
			switch {
			case !t.free(p) || isReserved:
			case t.rests(p):
				resting = append(resting, p)
			case !yield(p):
				return
			}
		}
		slices.SortStableFunc(resting, func(a, b uint16) int { return t.released[a].Compare(t.released[b]) })
		for _, p := range resting {
			if !yield(p) {
				return
			}
		}
	}
}

func (t *portTable) rests(port uint16) bool {
	released, ok := t.released[port]
	return ok && time.Since(released) < rest
}

func (t *portTable) free(port uint16) bool {
	_, taken := t.owners[port]
	return !taken && port >= t.First && port <= t.Last
}

func (t *portTable) take(port uint16, name iptables.Key) {
	t.owners[port] = name
	delete(t.released, port)
	for t.lowest <= int(t.Last) && !t.free(uint16(t.lowest)) {
		t.lowest++
	}
}

func (t *portTable) release(port uint16) {
	delete(t.owners, port)
	t.released[port] = time.Now()
	t.lowest = min(t.lowest, int(port))
}

// forgetLast ends the reservations: whoever was going to come back has.
func (t *portTable) forgetLast() { t.last, t.reserved = nil, nil }
