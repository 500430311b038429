package transparent

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What Paths remembers. A change of which nobody tells (Forget) is noticed
// after so long.
const (
	rememberedAddresses = 4096
	rememberedDevices   = 1024
	rememberFor         = 5 * time.Second
)

// Paths knows by which network device of this node an address is reached. Its
// methods, but for Close, may be called at the same time.
type Paths struct {
	handle  *netlink.Handle
	hops    *cache[netip.Addr, hop]
	devices *cache[int, string]
}

// hop is how the node sends something to an address.
type hop struct {
	device int  // index
	local  bool // the address is the node's own, or no single host's
}

// NewPaths opens a route socket in the network namespace of the calling thread.
func NewPaths() (p *Paths, err error) {
	p = &Paths{}
	if p.hops, err = newCache(rememberedAddresses, rememberFor, p.askHop); err != nil {
		return nil, err
	}
	if p.devices, err = newCache(rememberedDevices, rememberFor, p.askDevice); err != nil {
		return nil, err
	}
	if p.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	return p, nil
}

// Close closes the socket. No other method may be running, or be called later.
func (p *Paths) Close() { p.handle.Close() }

// Forget is to be called when links, addresses or routes have changed. Answers
// that are on their way are forgotten as well.
func (p *Paths) Forget() {
	p.hops.forget()
	p.devices.forget()
}

// Device names the network device by which the node sends to an address: lo if
// it is one of its own. It fails if there is no route.
func (p *Paths) Device(addr netip.Addr) (string, error) {
	hop, err := p.hops.get(addr.Unmap())
	if err != nil {
		return "", err
	}
	return p.devices.get(hop.device)
}

// askHop looks the route up as for a packet without a mark.
func (p *Paths) askHop(addr netip.Addr) (hop, error) {
	if !addr.IsValid() {
		return hop{}, fmt.Errorf("look up a route: no address")
	}
	routes, err := p.handle.RouteGet(addr.AsSlice())
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return hop{}, fmt.Errorf("look up the route to %s: %w", addr, err)
	}
	return hop{device: routes[0].LinkIndex, local: routes[0].Type != unix.RTN_UNICAST}, nil
}

func (p *Paths) askDevice(index int) (string, error) {
	link, err := p.handle.LinkByIndex(index)
	if err != nil {
		return "", fmt.Errorf("find the network device with index %d: %w", index, err)
	}
	return link.Attrs().Name, nil
}
