package proxier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
)

// nodeAddresses is what the capture needs to know of the node's interfaces.
type nodeAddresses struct {
	byInterface map[string][]netip.Addr // of interfaces that are up and can receive on their own
}

// readAddresses asks the kernel.
func readAddresses() (nodeAddresses, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nodeAddresses{}, fmt.Errorf("list network interfaces: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nodeAddresses{}, fmt.Errorf("list addresses: %w", err)
	}
	byIndex := map[int][]netip.Addr{}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			byIndex[a.LinkIndex] = append(byIndex[a.LinkIndex], ip.Unmap())
		}
	}
	n := nodeAddresses{map[string][]netip.Addr{}}
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Flags&net.FlagUp == 0 {
			continue
		}
		if attrs.MasterIndex != 0 && len(byIndex[attrs.Index]) == 0 {
			continue // a bridge's port: packets come in by the bridge
		}
		n.byInterface[attrs.Name] = byIndex[attrs.Index]
	}
	return n, nil
}

func (n nodeAddresses) all() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for _, list := range n.byInterface {
		for _, a := range list {
			all[a] = true
		}
	}
	return all
}

// bindable are the addresses of a family that a NodePort is served on, sorted.
// A link-local address means nothing without its interface.
func (n nodeAddresses) bindable(family Family) (list []netip.Addr) {
	for a := range n.all() {
		if familyOf(a) == family && !a.IsLinkLocalUnicast() {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// numbered are the interfaces that have an address of the family, sorted, and
// whether there are others.
func (n nodeAddresses) numbered(family Family) (names []string, others bool) {
	for name, list := range n.byInterface {
		has := slices.ContainsFunc(list, func(a netip.Addr) bool {
			return familyOf(a) == family && !a.IsLinkLocalUnicast()
		})
		if has {
			names = append(names, name)
		} else {
			others = true
		}
	}
	slices.Sort(names)
	return names, others
}

// primary is the node's address in a family: preferred if it is one of its
// own, else the lowest global one; invalid if there is none.
func (n nodeAddresses) primary(family Family, preferred []netip.Addr) netip.Addr {
	all := n.all()
	for _, a := range preferred {
		if familyOf(a) == family && all[a] {
			return a
		}
	}
	for _, a := range n.bindable(family) {
		if !a.IsLoopback() {
			return a
		}
	}
	return netip.Addr{}
}

// addressWatch keeps nodeAddresses current.
type addressWatch struct {
	log        logrus.FieldLogger
	changed    chan struct{} // has room for one
	complaints occasionally

	mu      sync.Mutex
	current nodeAddresses
}

func newAddressWatch(log logrus.FieldLogger) (*addressWatch, error) {
	current, err := readAddresses()
	return &addressWatch{
		log: log, changed: make(chan struct{}, 1), current: current,
		complaints: occasionally{interval: time.Minute},
	}, err
}

func (w *addressWatch) addresses() nodeAddresses {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// refresh reads again, and tells whether anything has changed. On an error,
// what was known stays.
func (w *addressWatch) refresh() bool {
	current, err := readAddresses()
	if err != nil {
		w.log.WithError(err).Warn("cannot read the node's addresses; going on with those known")
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := !maps.EqualFunc(w.current.byInterface, current.byInterface, slices.Equal)
	w.current = current
	return changed
}

// run tells about changes until ctx is done. Notifications only say that
// something changed: everything is read again, so that a lost one costs little.
func (w *addressWatch) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.follow(ctx); err != nil && w.complaints.allow(time.Now()) {
			w.log.WithError(err).Warn("cannot watch the node's addresses; changes are noticed late")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// follow returns when ctx is done or a subscription has ended, as it does when
// notifications come faster than they are read.
func (w *addressWatch) follow(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	addrs, links := make(chan netlink.AddrUpdate), make(chan netlink.LinkUpdate)
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return err
	}
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		cancel()
		for range addrs {
		}
		return err
	}
	w.wake()
	for addrs != nil || links != nil {
		select {
		case _, ok := <-addrs:
			if !ok {
				addrs = nil
				cancel()
			}
		case _, ok := <-links:
			if !ok {
				links = nil
				cancel()
			}
		}
		w.wake()
	}
	if parent.Err() != nil {
		return nil
	}
	return errors.New("the kernel ended the subscription")
}

func (w *addressWatch) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
