package policyroute

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// refuser is a TUN interface (the kernel's Documentation/networking/tuntap.rst) that
// refuses whatever is routed into it. The interface and all routes to it end with it,
// also if the process crashes.
type refuser struct {
	file  *os.File
	index int
	only  *atomic.Pointer[limits]
	done  chan struct{} // closed when it reads no more
}

// limits are the clients that are refused, where not all are.
type limits map[Destination][]netip.Prefix

// silent says whether a packet is to get no answer.
func (l limits) silent(packet []byte) bool {
	if len(l) == 0 {
		return false
	}
	src, to, ok := flowOf(packet)
	only, limited := l[to]
	return ok && limited && !slices.ContainsFunc(only, func(p netip.Prefix) bool { return p.Contains(src) })
}

// newRefuser needs CAP_NET_ADMIN and /dev/net/tun.
func newRefuser(only *atomic.Pointer[limits]) (*refuser, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	request, _ := unix.NewIfreq("usher%d")
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a TUN interface: %w", err)
	}
	r := &refuser{file: os.NewFile(uintptr(fd), "/dev/net/tun"), only: only, done: make(chan struct{})}
	if err := r.up(request.Name()); err != nil {
		r.file.Close()
		return nil, err
	}
	go r.run()
	return r, nil
}

func (r *refuser) up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", name, err)
	}
	r.index = link.Attrs().Index
	netlink.LinkSetIP6AddrGenMode(link, nl6AddrGenModeNone) // fails without IPv6
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set the interface %s up: %w", name, err)
	}
	return nil
}

// nl6AddrGenModeNone is IN6_ADDR_GEN_MODE_NONE: no link-local address.
const nl6AddrGenModeNone = 1

// run answers one packet at a time; the interface's queue bounds those that wait.
func (r *refuser) run() {
	defer close(r.done)
	packet := make([]byte, 1<<16)
	for {
		n, err := r.file.Read(packet)
		if err != nil {
			return // the interface is gone
		}
		if only := r.only.Load(); only != nil && only.silent(packet[:n]) {
			continue
		}
		if answer := refusal(packet[:n]); answer != nil {
			r.file.Write(answer) // one that is lost is asked for again
		}
	}
}

// works says whether it still refuses.
func (r *refuser) works() bool {
	select {
	case <-r.done:
		return false
	default:
	}
	link, err := netlink.LinkByIndex(r.index)
	return err == nil && link.Attrs().Flags&unix.IFF_UP != 0
}

func (r *refuser) close() {
	r.file.Close()
	<-r.done
}
