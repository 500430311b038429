package proxier

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/instant"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/udp"
	"github.com/usher-proxy/usher/proxier/wire"
)

// handedOver is what one process hands over to the next one: everything that is being
// served, as plain data for encoding/gob, but for connections (handover_wire.go). Sockets are
// named by their cookies (package handover), those of connections by their places in the
// parcel, which saves two questions to the kernel for each. Fields may be added, and are then
// unknown to older processes and empty from them; anything else needs another handoverFormat.
//
// While connections in which bytes move come to rest, nothing is to be done that can be done
// before or after: what stays as it is then is encoded before, and all connections that rest
// by then wait in a parcel of their own, which the next process opens last.
type handedOver struct {
	Format    string
	Version   string          // of the usher that has made it
	Times     int             // how often it was handed over, this time included
	Began     instant.Instant // when the first of these processes did
	Rested    instant.Instant // when everything began to rest
	Ready     bool            // what it has is complete
	Capture   string
	Families  []Family // that it serves
	Crashed   bool     // it has nothing but sockets: who made it had no time to hand over
	Kept      []uint64 // by cookie, what the Keeper has
	Numbering observe.Numbering
	Node      []byte // the Node object as JSON, empty if there is none
	Early     uint64 // by cookie, the socket in which the early parcel waits; 0: there is none
	Late      []carriedLate
	Settings  []annotation.Settings // of Leaving, numbered behind those of the early parcel
	Leaving   []carriedListener     // those of which only connections are left
	Denied    map[Family]carriedSocket
	Servers   map[string]uint64 // those beside Services, by what they serve
	Checks    []carriedCheck
	Overrides []carriedOverride

	early   handedEarly
	encoded []byte // early, nil: not yet
	last    carriedConnections
}

// handedEarly is what stays as it is while connections come to rest.
type handedEarly struct {
	Settings  []annotation.Settings
	Listeners []carriedListener // those that serve a Port, sorted
}

// handoverFormat is that of handedOver. A test builds an usher with another one (-ldflags=-X).
var handoverFormat = "2"

// carriedListener is a listener, with the Port that it serves.
type carriedListener struct {
	Port     Port // without its Settings
	Settings int  // which these are
	Sockets  []carriedSocket
	late     carriedLate
}

// carriedLate is what is told of a listener when everything rests.
type carriedLate struct {
	Listener int
	Sockets  []carriedSocket // of UDP
	Health   []outlier.EndpointState
	// Of the ServicePort, which the first of its listeners tells.
	Affinity []balancer.AffinityEntry
	Limits   limit.State
}

// carriedSocket is one that a listener has.
type carriedSocket struct {
	Addr     netip.AddrPort
	Set      Set
	Frontend Frontend
	Cookie   uint64
	Listens  bool           // of TCP
	Packets  *carriedPacket // of UDP
}

// carriedPacket is what belongs to a UDP socket.
type carriedPacket struct {
	State    udp.SocketState // its files are numbers of Files
	Files    []uint64        // by cookie
	Sessions []carriedRoute  // of the State's sessions, in their order
}

// carriedRoute is a packetRoute.
type carriedRoute struct {
	Endpoint        balancer.Endpoint
	Affinity        balancer.AffinityResult
	Frontend        Frontend
	VIP             netip.AddrPort
	Client          string
	Set             Set
	Eligible, Known int
	Terminating     bool
	SourceWhy       string
}

// carriedConnection is a connection at rest.
type carriedConnection struct {
	Listener int          // in Listeners, and behind these in Leaving
	Client   int          // the file's place in the parcel, from 1 on
	Backend  int          // likewise; 0: it looks for an endpoint
	Relay    *relay.State // nil: nothing was relayed yet
	Record   observe.Carried
	Attempt  time.Duration // when that which led to the endpoint began, after the start
	// What the connection says of itself by the same names.
	KeepSource, Hedged, Noted, Settled bool
	Admitted                           bool // by the limits
	Wait                               time.Duration
}

// carriedCheck is a healthCheck.
type carriedCheck struct {
	Namespace, Name string
	Port            uint16
	Local           map[Family]int
}

// carriedOverride is an override.
type carriedOverride struct {
	Addr               netip.Addr
	Port               uint16
	Pod                string
	Namespace, Service string
	UID                uint32
	Since              time.Time
	Tenant             string
}

func encode(what any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(what)
	return b.Bytes(), err
}

func decode(b []byte, into any) error { return gob.NewDecoder(bytes.NewReader(b)).Decode(into) }

// The fields of a state that is handed over.
const (
	fieldRest        = 1 // handedOver, by encoding/gob
	fieldConnections = 2 // carriedConnections
	fieldEarly       = 3 // handedEarly, by encoding/gob
	fieldPlaces      = 4 // how many files belong to connections
)

func (h *handedOver) encode() ([]byte, error) {
	rest, err := encode(h)
	if err == nil && h.encoded == nil {
		err = h.encodeEarly()
	}
	var w wire.Writer
	w.Bytes(fieldRest, rest)
	w.Bytes(fieldEarly, h.encoded)
	h.last.append(&w)
	return w.B, err
}

func (h *handedOver) encodeEarly() (err error) {
	h.encoded, err = encode(&h.early)
	return err
}

// readHandedOver reads what another process has made, or says why this one cannot go on with
// it.
func readHandedOver(state []byte) (*handedOver, error) {
	h := &handedOver{}
	rest, err := h.read(state)
	if err == nil {
		err = decode(rest, h)
	}
	if err != nil {
		return nil, fmt.Errorf("the state that was handed over cannot be read: %w", err)
	}
	if h.Format != handoverFormat {
		return nil, fmt.Errorf("the state was handed over by usher %s in format %s, this one has %s: restart it instead", h.Version, h.Format, handoverFormat)
	}
	if err := decode(h.encoded, &h.early); err != nil {
		return nil, fmt.Errorf("the state that was handed over cannot be read: %w", err)
	}
	return h, h.join()
}

// read finds the parts of a state.
func (h *handedOver) read(state []byte) (rest []byte, err error) {
	r := wire.NewReader(state)
	for r.Next() {
		switch r.Field {
		case fieldRest:
			rest = r.Bytes()
		case fieldEarly:
			h.encoded = r.Bytes()
		default:
			h.last.readField(r)
		}
	}
	return rest, r.Err
}

// join joins what was told early with the rest.
func (h *handedOver) join() error {
	h.Settings = append(h.early.Settings, h.Settings...)
	for _, late := range h.Late {
		if late.Listener < 0 || late.Listener >= len(h.early.Listeners) {
			return fmt.Errorf("the state that was handed over is broken: it has no listener %d", late.Listener)
		}
		l := &h.early.Listeners[late.Listener]
		l.late, l.Sockets = late, append(l.Sockets, late.Sockets...)
	}
	for _, l := range h.all() {
		if l.Settings < 0 || l.Settings >= len(h.Settings) {
			return fmt.Errorf("the state that was handed over is broken: %s has no settings", l.Port.Key)
		}
	}
	return nil
}

// connections reads some of them, unless that was done.
func (h *handedOver) connections(of *carriedConnections) ([]carriedConnection, error) {
	if err := of.read(); err != nil {
		return nil, err
	}
	for i := range of.list {
		one := &of.list[i]
		if one.Listener < 0 || one.Listener >= len(h.early.Listeners)+len(h.Leaving) || one.Backend != 0 && one.Relay == nil {
			return nil, fmt.Errorf("connection %d that was handed over is broken", one.Record.Number)
		}
	}
	return of.list, nil
}

// all are the listeners in the order in which connections number them.
func (h *handedOver) all() []*carriedListener {
	list := make([]*carriedListener, 0, len(h.early.Listeners)+len(h.Leaving))
	for i := range h.early.Listeners {
		list = append(list, &h.early.Listeners[i])
	}
	for i := range h.Leaving {
		list = append(list, &h.Leaving[i])
	}
	return list
}
