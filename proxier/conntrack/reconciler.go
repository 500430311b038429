package conntrack

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// Destination is what clients send their datagrams to.
type Destination struct {
	// Addr is of the Reconciler's family. The zero Addr means every address of
	// the node, loopback included: a NodePort. Where NodePorts are served on some
	// addresses only, there is a Destination for each.
	Addr netip.Addr
	Port uint16
}

// Reconciler deletes the stale UDP entries of one address family. It is not safe
// for concurrent use.
type Reconciler struct {
	family iptables.Family
	table  table

	// What the last Sync was told, and its error. At first nothing is captured.
	to    map[Destination][]uint16
	local map[netip.Addr]bool
	err   error
	// ports are the local ports of every Sync since the last success, and of that.
	ports map[uint16]bool
}

// table is the kernel's, a [netlink.Handle].
type table interface {
	ConntrackDeleteFilters(netlink.ConntrackTableType, netlink.InetFamily, ...netlink.CustomConntrackFilter) (uint, error)
	Close()
}

// patience bounds the wait for each answer of the kernel, which has no reason to
// be late.
const patience = 10 * time.Second

// New returns a Reconciler for the network namespace that the calling thread is
// in. It is the caller's to close. The error is [ErrUnavailable] if the kernel
// has no netfilter netlink.
func New(family iptables.Family) (*Reconciler, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err == nil {
		err = handle.SetSocketTimeout(patience)
	}
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink: %w", explain(err))
	}
	return &Reconciler{family: family, table: handle, ports: map[uint16]bool{}}, nil
}

// Close releases the netlink socket. The Reconciler must not be used afterwards.
func (r *Reconciler) Close() { r.table.Close() }

// Sync deletes the UDP entries that disagree with the rules now in force, and
// tells how many.
//
// to is every destination that is captured now, with the local ports of this
// process that some client's datagrams to it go to. Entries that lead to any of
// these stay: which client gets which is not looked at. No port at all means that
// a socket is bound to the destination itself, and datagrams arrive without NAT.
// local are the node's own addresses; those of loopback (127.0.0.0/8, ::1) need
// not be named. Neither map may be changed afterwards.
//
// If nothing has changed since a Sync without error, there is nothing to do, and
// nothing is asked of the kernel. Addresses that are link-local or of the other
// family do not count as a change, as they come and go with pods.
//
// After an error the next Sync tries again, with all that was not done. What
// could be deleted is deleted also then, as with [ErrPartial], after which a Sync
// soon is advisable. Only after [ErrUnavailable] it returns the same error, and
// tries again when something changes.
func (r *Reconciler) Sync(to map[Destination][]uint16, local map[netip.Addr]bool) (deleted int, err error) {
	settled := r.err == nil || errors.Is(r.err, ErrUnavailable)
	if settled && r.same(to, local) {
		return 0, r.err
	}
	r.to, r.local = to, local
	current := portsOf(to)
	maps.Copy(r.ports, current)
	deleted, r.err = r.deleteStale()
	if r.err == nil {
		r.ports = current
	}
	return deleted, r.err
}

func (r *Reconciler) same(to map[Destination][]uint16, local map[netip.Addr]bool) bool {
	return r.hasAll(local, r.local) && r.hasAll(r.local, local) && maps.EqualFunc(to, r.to, slices.Equal)
}

// hasAll says whether every address of some is in all, of those that matter.
func (r *Reconciler) hasAll(all, some map[netip.Addr]bool) bool {
	for addr := range some {
		if !all[addr] && addr.Is4() == (r.family == iptables.IPv4) && !addr.IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}

func portsOf(to map[Destination][]uint16) map[uint16]bool {
	all := map[uint16]bool{}
	for _, ports := range to {
		for _, port := range ports {
			all[port] = true
		}
	}
	return all
}

// deleteStale reads the table once.
func (r *Reconciler) deleteStale() (int, error) {
	if len(r.to) == 0 && len(r.ports) == 0 {
		return 0, nil // nothing can be stale
	}
	stale := staleFlows{to: r.to, local: r.local, ports: r.ports}
	n, err := r.table.ConntrackDeleteFilters(netlink.ConntrackTable, inetFamily(r.family), stale)
	if err != nil {
		err = fmt.Errorf("delete stale UDP entries of %s from the connection tracking table: %w", r.family, explain(err))
	}
	return int(n), err
}

func inetFamily(family iptables.Family) netlink.InetFamily {
	if family == iptables.IPv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
