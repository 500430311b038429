package observe

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/instant"
	"github.com/usher-proxy/usher/proxier/wire"
)

// Carried is a Record without its end that goes on in another process, as plain data.
type Carried struct {
	Number                                                                uint64
	Start                                                                 instant.Instant
	Client, VIP, Listener                                                 netip.AddrPort
	Backend                                                               balancer.Endpoint
	Balancer, Pick, ClientKind, VIPKind, Source, SourceWhy, Affinity, Set string
	Family                                                                uint8
	LocalPort, Candidates, Eligible                                       uint16
	ServiceActive, GlobalActive                                           int32
	Attempts                                                              []Attempt
	Waited, Connect                                                       time.Duration
}

// Carry returns the record as plain data. It has not ended.
func (r *Record) Carry() Carried {
	return Carried{
		Number: r.number, Start: instant.Of(r.Start), Client: r.Client, VIP: r.VIP, Listener: r.Listener, Backend: r.Backend(),
		Balancer: r.Balancer.String(), Pick: r.Pick.String(), ClientKind: r.ClientKind.String(), VIPKind: r.VIPKind.String(),
		Source: r.Source.String(), SourceWhy: r.SourceWhy.String(), Affinity: r.Affinity.String(), Set: r.Set.String(),
		Family: r.Family, LocalPort: r.LocalPort, Candidates: r.Candidates, Eligible: r.Eligible,
		ServiceActive: r.ServiceActive, GlobalActive: r.GlobalActive, Attempts: r.Attempts, Waited: r.Waited, Connect: r.Connect,
	}
}

// Resume is Open for a record that another process began, whose Observer this one
// continues. It keeps its ID.
func (o *Observer) Resume(port *PortMetrics, c *Carried) *Record {
	o.Opened(port)
	r := &Record{
		by: o, number: c.Number, ServicePort: &port.ServicePort, Start: c.Start.Time(), Client: c.Client, VIP: c.VIP, Listener: c.Listener,
		Balancer: WordOf(c.Balancer), Pick: WordOf(c.Pick), ClientKind: WordOf(c.ClientKind), VIPKind: WordOf(c.VIPKind),
		Source: WordOf(c.Source), SourceWhy: WordOf(c.SourceWhy), Affinity: WordOf(c.Affinity), Set: WordOf(c.Set),
		Family: c.Family, LocalPort: c.LocalPort, Candidates: c.Candidates, Eligible: c.Eligible,
		ServiceActive: c.ServiceActive, GlobalActive: c.GlobalActive, Attempts: c.Attempts, Waited: c.Waited, Connect: c.Connect,
	}
	r.SetBackend(c.Backend)
	return r
}

// Numbering is what the IDs of an Observer's records are made of.
type Numbering struct {
	Boot int64  // when the first process began
	Last uint64 // the record that was begun last
}

// Numbering returns that of now.
func (o *Observer) Numbering() Numbering { return Numbering{o.boot, o.last.Load()} }

// Continue has the Observer go on with the numbers of another process, before it begins any
// record.
func (o *Observer) Continue(n Numbering) {
	o.boot = n.Boot
	o.last.Store(n.Last)
}

// Append writes it.
func (c *Carried) Append(w *wire.Writer) {
	w.Uint(1, c.Number)
	w.Int(2, int64(c.Start))
	w.AddrPort(3, c.Client)
	w.AddrPort(4, c.VIP)
	w.AddrPort(5, c.Listener)
	if c.Backend != (balancer.Endpoint{}) {
		w.Message(6, func(w *wire.Writer) { appendEndpoint(w, &c.Backend) })
	}
	for i, word := range c.words() {
		w.String(protowire.Number(firstWord+i), *word)
	}
	w.Uint(15, uint64(c.Family))
	w.Uint(16, uint64(c.LocalPort))
	w.Uint(17, uint64(c.Candidates))
	w.Uint(18, uint64(c.Eligible))
	w.Int(19, int64(c.ServiceActive))
	w.Int(20, int64(c.GlobalActive))
	for i := range c.Attempts {
		w.Message(21, c.Attempts[i].append)
	}
	w.Int(22, int64(c.Waited))
	w.Int(23, int64(c.Connect))
}

// firstWord is the field of the first of the words.
const firstWord = 7

func (c *Carried) words() [8]*string {
	return [...]*string{&c.Balancer, &c.Pick, &c.ClientKind, &c.VIPKind, &c.Source, &c.SourceWhy, &c.Affinity, &c.Set}
}

// Read reads what Append has written.
func (c *Carried) Read(r *wire.Reader) error {
	words := c.words()
	for r.Next() {
		switch r.Field {
		case 1:
			c.Number = r.Uint()
		case 2:
			c.Start = instant.Instant(r.Int())
		case 3:
			c.Client = r.AddrPort()
		case 4:
			c.VIP = r.AddrPort()
		case 5:
			c.Listener = r.AddrPort()
		case 6:
			r.Message(func(r *wire.Reader) error { return readEndpoint(r, &c.Backend) })
		case 7, 8, 9, 10, 11, 12, 13, 14:
			*words[r.Field-firstWord] = r.String()
		case 15:
			c.Family = uint8(r.Uint())
		case 16:
			c.LocalPort = uint16(r.Uint())
		case 17:
			c.Candidates = uint16(r.Uint())
		case 18:
			c.Eligible = uint16(r.Uint())
		case 19:
			c.ServiceActive = int32(r.Int())
		case 20:
			c.GlobalActive = int32(r.Int())
		case 21:
			c.Attempts = append(c.Attempts, Attempt{})
			r.Message(c.Attempts[len(c.Attempts)-1].read)
		case 22:
			c.Waited = time.Duration(r.Int())
		case 23:
			c.Connect = time.Duration(r.Int())
		}
	}
	return r.Err
}

func appendEndpoint(w *wire.Writer, e *balancer.Endpoint) {
	w.AddrPort(1, e.Addr)
	w.String(2, e.Pod)
	w.String(3, e.Node)
	w.String(4, e.Zone)
	w.Int(5, int64(e.Weight))
}

func readEndpoint(r *wire.Reader, e *balancer.Endpoint) error {
	for r.Next() {
		switch r.Field {
		case 1:
			e.Addr = r.AddrPort()
		case 2:
			e.Pod = r.String()
		case 3:
			e.Node = r.String()
		case 4:
			e.Zone = r.String()
		case 5:
			e.Weight = int(r.Int())
		}
	}
	return r.Err
}

func (a *Attempt) append(w *wire.Writer) {
	w.AddrPort(1, a.Backend)
	w.String(2, a.Pod)
	w.Int(3, int64(a.Start))
	w.Int(4, int64(a.Duration))
	w.String(5, string(a.Result))
	w.String(6, a.Errno)
	w.Bool(7, a.Hedged)
}

func (a *Attempt) read(r *wire.Reader) error {
	for r.Next() {
		switch r.Field {
		case 1:
			a.Backend = r.AddrPort()
		case 2:
			a.Pod = r.String()
		case 3:
			a.Start = time.Duration(r.Int())
		case 4:
			a.Duration = time.Duration(r.Int())
		case 5:
			a.Result = Reason(r.String())
		case 6:
			a.Errno = r.String()
		case 7:
			a.Hedged = r.Bool()
		}
	}
	return r.Err
}
