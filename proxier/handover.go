package proxier

import (
	"bytes"
	"cmp"
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
// served, as plain data for encoding/gob, but for connections (handover_wire.go). Sockets are named by their cookies (package
// handover). Fields may be added, and are then unknown to older processes and empty from
// them; anything else needs another handoverFormat.
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
	Settings  []annotation.Settings
	Listeners []carriedListener // those that serve a Port, sorted
	Leaving   []carriedListener // those of which only connections are left
	Denied    map[Family]carriedSocket
	Servers   map[string]uint64 // those beside Services, by what they serve
	Checks    []carriedCheck
	Overrides []carriedOverride

	// chunks are lists of connections (appendConnections), beside the rest as they are many.
	chunks [][]byte
}

// handoverFormat is that of handedOver. A test builds an usher with another one (-ldflags=-X).
var handoverFormat = "1"

// carriedListener is a listener, with the Port that it serves.
type carriedListener struct {
	Port     Port // without its Settings
	Settings int  // which these are
	Sockets  []carriedSocket
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
	Listener int // in Listeners, and behind these in Leaving
	Client   uint64
	Backend  uint64       // 0: it looks for an endpoint
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
	fieldConnections = 2 // a list of connections; there may be several
)

func (h *handedOver) encode() ([]byte, error) {
	rest, err := encode(h)
	if err != nil {
		return nil, err
	}
	var w wire.Writer
	w.Bytes(fieldRest, rest)
	for _, some := range h.chunks {
		w.Bytes(fieldConnections, some)
	}
	return w.B, nil
}

// readHandedOver reads what another process has made, or says why this one cannot go on with
// it.
func readHandedOver(state []byte) (*handedOver, error) {
	h := &handedOver{}
	var rest []byte
	r := wire.NewReader(state)
	for r.Next() {
		switch r.Field {
		case fieldRest:
			rest = r.Bytes()
		case fieldConnections:
			h.chunks = append(h.chunks, r.Bytes())
		}
	}
	if err := cmp.Or(r.Err, decode(rest, h)); err != nil {
		return nil, fmt.Errorf("the state that was handed over cannot be read: %w", err)
	}
	if h.Format != handoverFormat {
		return nil, fmt.Errorf("the state was handed over by usher %s in format %s, this one has %s: restart it instead", h.Version, h.Format, handoverFormat)
	}
	for _, l := range h.all() {
		if l.Settings < 0 || l.Settings >= len(h.Settings) {
			return nil, fmt.Errorf("the state that was handed over is broken: %s has no settings", l.Port.Key)
		}
	}
	return h, nil
}

// connections reads a list of them.
func (h *handedOver) connections(chunk []byte) (list []carriedConnection, err error) {
	if list, err = readConnections(chunk); err != nil {
		return nil, fmt.Errorf("the connections that were handed over cannot be read: %w", err)
	}
	for _, c := range list {
		if c.Listener < 0 || c.Listener >= len(h.Listeners)+len(h.Leaving) || c.Backend != 0 && c.Relay == nil {
			return nil, fmt.Errorf("connection %d that was handed over is broken", c.Record.Number)
		}
	}
	return list, nil
}

// all are the listeners in the order in which connections number them.
func (h *handedOver) all() []*carriedListener {
	list := make([]*carriedListener, 0, len(h.Listeners)+len(h.Leaving))
	for i := range h.Listeners {
		list = append(list, &h.Listeners[i])
	}
	for i := range h.Leaving {
		list = append(list, &h.Leaving[i])
	}
	return list
}
