package proxier

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/outlier"
)

// Inheritance is what another process has handed over, for Config.Inherited. A Proxier goes on
// with it: first with the bytes of established connections, which nothing else is needed for;
// then, when the capture is there, with all the rest. Whatever of it nobody wants any more is
// closed at the end.
type Inheritance struct {
	*handedOver
	files     *handover.Files     // by cookie
	others    *carriedConnections // those of the early parcel, empty until that was opened
	ports     []*Port             // of the listeners that serve
	byKey     map[Key]*carriedListener
	listeners map[Key]*listener // with connections, not taken over yet
	sockets   map[heirloom]inherited
	later     []func() // connections that look for an endpoint, or may
	picks     map[*listener][]*latePick
	resumed   int
	paused    time.Duration // of those in which bytes moved
	lost      error
}

// heirloom names a socket: whose it is, and its address.
type heirloom struct {
	owner string
	addr  netip.AddrPort
}

// inherited is one that is not in use again yet.
type inherited struct {
	carriedSocket
	key Key
}

// Inherit reads what another process has handed over, and says whether one with this
// configuration can go on with it; it changes nothing. The Parcel's files are its own from
// then on: with an error they are closed, otherwise New takes them, or Close.
func Inherit(parcel handover.Parcel, cfg *Config) (h *Inheritance, err error) {
	h = &Inheritance{
		files: handover.NewFiles(nil), others: &carriedConnections{}, byKey: map[Key]*carriedListener{}, listeners: map[Key]*listener{},
		sockets: map[heirloom]inherited{}, picks: map[*listener][]*latePick{},
	}
	defer func() {
		if err != nil {
			h.Close()
			h = nil
		}
	}()
	if h.handedOver, err = readHandedOver(parcel.State); err != nil {
		h.files.Add(parcel.Files)
		return h, err
	}
	others, err := h.last.own(parcel.Files)
	h.files.Add(others)
	if err = errors.Join(err, cfg.checkPolicies()); err != nil {
		return h, err
	}
	if cfg.Capture != "auto" && cfg.Capture != h.Capture {
		return h, fmt.Errorf("--capture=%s, but what is served is by %s: only a usher that begins anew can change that", cfg.Capture, h.Capture)
	}
	h.index()
	return h, nil
}

// index finds things by their names.
func (h *Inheritance) index() {
	for i, l := range h.all() {
		l.Port.Settings = &h.Settings[l.Settings]
		if i < len(h.early.Listeners) {
			h.byKey[l.Port.Key] = l
			h.ports = append(h.ports, &l.Port)
		}
		for _, s := range l.Sockets {
			h.sockets[heirloom{l.Port.Key.String(), s.Addr}] = inherited{s, l.Port.Key}
		}
	}
	for _, s := range h.Denied {
		h.sockets[heirloom{deniedKey.Name, s.Addr}] = inherited{carriedSocket: s}
	}
	if h.Crashed {
		h.sort()
	}
}

// openEarly opens the early parcel, if it has come along and was not opened yet.
func (h *Inheritance) openEarly() error {
	if h.Early == 0 {
		return nil
	}
	socket, ok := h.files.Take(h.Early)
	h.Early = 0
	if !ok {
		return errors.New("the early parcel was not handed over")
	}
	p, err := handover.Open(socket)
	if err != nil {
		return err
	}
	early, err := readEarly(*p)
	if err == nil {
		h.add(early)
	}
	return err
}

// add adds what rested early.
func (h *Inheritance) add(early *earlyParcel) {
	h.others = &early.carriedConnections
	h.files.Add(early.rest)
	early.rest = nil
}

// Check is for who could still leave everything where it was: it reads all that New would find
// out to be broken.
func (h *Inheritance) Check() error {
	if err := h.openEarly(); err != nil {
		return err
	}
	for _, some := range []*carriedConnections{&h.last, h.others} {
		if _, err := h.connections(some); err != nil {
			return err
		}
	}
	return nil
}

// Close closes what nobody has taken. h may be nil.
func (h *Inheritance) Close() {
	if h == nil {
		return
	}
	if h.handedOver != nil {
		h.last.close()
	}
	h.others.close()
	h.files.Close()
}

// node is the Node object, nil if there was none.
func (h *Inheritance) node() *corev1.Node {
	if len(h.Node) == 0 {
		return nil
	}
	node := &corev1.Node{}
	if json.Unmarshal(h.Node, node) != nil {
		return nil // it comes again with the first pass
	}
	return node
}

// overrides are those that somebody has made.
func (h *Inheritance) overrides() (list overrides) {
	for _, o := range h.Overrides {
		list = append(list, override{
			target: target{o.Addr, o.Port, o.Pod, serviceName{o.Namespace, o.Service}}, uid: o.UID, since: o.Since, tenant: o.Tenant,
		})
	}
	return list
}

// checks are the health checks of load balancers.
func (h *Inheritance) checks() (list []healthCheck) {
	for _, c := range h.Checks {
		list = append(list, healthCheck{serviceName{c.Namespace, c.Name}, c.Port, c.Local})
	}
	return list
}

// take takes a socket that is inherited, if the owner has had it.
func (h *Inheritance) take(owner string, addr netip.AddrPort) (s inherited, fd int, ok bool) {
	if h == nil {
		return s, -1, false
	}
	name := heirloom{owner, addr}
	if s, ok = h.sockets[name]; !ok {
		return s, -1, false
	}
	delete(h.sockets, name)
	if s.Packets != nil {
		return s, -1, true
	}
	fd, ok = h.files.Take(s.Cookie)
	return s, fd, ok
}

// late is what was told of a listener last, empty if nothing was.
func (h *Inheritance) late(key Key) *carriedLate {
	if l := h.byKey[key]; l != nil {
		return &l.late
	}
	return &carriedLate{}
}

// health is what was known of a listener's endpoints.
func (h *Inheritance) health(key Key) []outlier.EndpointState {
	if h == nil {
		return nil
	}
	return h.late(key).Health
}

// affinity is what was known of a ServicePort's clients.
func (h *Inheritance) affinity(of ServicePort) []balancer.AffinityEntry {
	if h == nil {
		return nil
	}
	return slices.Concat(h.late(Key{of, IPv4}).Affinity, h.late(Key{of, IPv6}).Affinity)
}

// limits is what was left of a ServicePort's limits.
func (h *Inheritance) limits(of ServicePort) (state limit.State) {
	if h == nil {
		return state
	}
	for _, family := range []Family{IPv4, IPv6} {
		state.Missing = max(state.Missing, h.late(Key{of, family}).Limits.Missing)
	}
	return state
}

// had says whether the rules of a family work, as far as who has handed over knows.
func (h *Inheritance) had(family Family) bool { return h != nil && slices.Contains(h.Families, family) }

// ruleKeys are the ports of the range that each family's listeners had.
func (h *Inheritance) ruleKeys(family Family) map[iptables.Key]uint16 {
	if h == nil || h.Crashed || h.Capture != "iptables" {
		return nil
	}
	ports := map[iptables.Key]uint16{}
	for _, s := range h.sockets {
		switch {
		case familyOf(s.Addr.Addr()) != family:
		case s.key == (Key{}):
			ports[deniedKey] = s.Addr.Port()
		default:
			ports[ruleKey(s.key.ServicePort, destination{s.Set, s.Frontend})] = s.Addr.Port()
		}
	}
	return ports
}
