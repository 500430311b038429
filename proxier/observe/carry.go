package observe

import (
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/instant"
)

// Carried is a Record without its end that goes on in another process: plain data, for
// encoding/gob.
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
