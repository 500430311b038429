package observe

import "sync/atomic"

// DropCause is why a datagram was not relayed.
type DropCause uint8

// The causes. Their names in usher_udp_drops_total are those of String.
const (
	DropError        DropCause = iota // none of the others
	DropNoEndpoint                    // the Service has no usable endpoint
	DropSessionLimit                  // there are as many sessions as there may be
	DropTooBig                        // it does not fit into a packet of the way (EMSGSIZE)
	DropQueue                         // the kernel had no room: a full receive or send queue
	DropSourceDenied                  // the client is outside of loadBalancerSourceRanges
	DropLoop                          // its source is an address that usher itself serves
	DropResources                     // out of file descriptors, local ports or memory
	DropRefused                       // the endpoint refused it (ICMP port unreachable)
)

var dropCauses = [...]string{
	DropError:        "error",
	DropNoEndpoint:   "no_endpoint",
	DropSessionLimit: "session_limit",
	DropTooBig:       "too_big",
	DropQueue:        "queue",
	DropSourceDenied: "source_denied",
	DropLoop:         "loop",
	DropResources:    "res",
	DropRefused:      "refused",
}

// known is the cause, or DropError for what is none.
func (c DropCause) known() DropCause {
	if int(c) < len(dropCauses) {
		return c
	}
	return DropError
}

// String is the value of the label cause.
func (c DropCause) String() string { return dropCauses[c.known()] }

// udpMetrics are what only a UDP port has.
type udpMetrics struct {
	in, out atomic.Uint64
	drops   [len(dropCauses)]atomic.Uint64
}

// collect sends all of it: drops come in floods, and a rate sees the first drop only
// if there was a zero before it.
func (u *udpMetrics) collect(s *scrape) {
	s.send(datagrams, float64(u.in.Load()), "in")
	s.send(datagrams, float64(u.out.Load()), "out")
	for cause, name := range dropCauses {
		s.send(drops, float64(u.drops[cause].Load()), name)
	}
}

// Datagrams counts datagrams that were passed on, and their bytes: in from the
// client, out to it. It is meant to be called once per batch: it allocates
// nothing, and what is zero costs nothing. On a port that is not UDP it does
// nothing.
func (p *PortMetrics) Datagrams(in, bytesIn, out, bytesOut int) {
	if p.udp == nil {
		return
	}
	p.use()
	add(&p.udp.in, in)
	add(&p.bytesIn, bytesIn)
	add(&p.udp.out, out)
	add(&p.bytesOut, bytesOut)
}

// Dropped counts n datagrams of either direction that were not passed on. It
// allocates nothing. On a port that is not UDP it does nothing.
func (p *PortMetrics) Dropped(cause DropCause, n int) {
	if p.udp == nil {
		return
	}
	p.use()
	add(&p.udp.drops[cause.known()], n)
}

// add ignores what no counter can take, a negative number.
func add(c *atomic.Uint64, n int) {
	if n > 0 {
		c.Add(uint64(n))
	}
}
