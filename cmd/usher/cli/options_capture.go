package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
)

// captureOptions say how connections get to usher.
type captureOptions struct {
	capture   string
	portRange string
	mark      string
	announce  bool
	anyIP     bool
}

func (c *captureOptions) define(f *pflag.FlagSet) {
	f.StringVar(&c.capture, "capture", "auto", "iptables (REDIRECT rules), bind (bind the Service addresses), or auto: iptables if it works")
	f.StringVar(&c.portRange, "proxy-port-range", "11000-29999", "`ports` of listeners for redirected connections")
	f.BoolVar(&c.announce, "announce-vips", false, "with bind capture, answer ARP and neighbour discovery for load balancer and external IPs in the node's subnets; on one node of a subnet only")
	f.BoolVar(&c.anyIP, "any-ip", false, "with bind capture, do without policy routing as on a kernel that has none: Service addresses then lead to every server on this node")
	f.StringVar(&c.mark, "mark", "0x20/0x20", "packet mark, `value[/mask]`, of usher's own connections, which iptables then leaves alone")
}

func (c *captureOptions) configure(o *options, cfg *proxier.Config) (err error) {
	switch c.capture {
	case "auto", "iptables", "bind":
	default:
		return o.fault("capture", c.capture, "want auto, iptables or bind")
	}
	for _, name := range []string{"proxy-port-range", "mark", "return-mark"} {
		if c.capture == "bind" && o.spoken(name) != nil {
			return fmt.Errorf("--%s is about redirected connections: %s=bind has none", name, o.label("capture"))
		}
	}
	for _, name := range []string{"announce-vips", "any-ip"} {
		if c.capture == "iptables" && o.spoken(name) != nil {
			return fmt.Errorf("--%s is about bound addresses: %s=iptables has none", name, o.label("capture"))
		}
	}
	cfg.Capture, cfg.AnnounceVIPs, cfg.AnyIP = c.capture, c.announce, c.anyIP
	if cfg.ProxyPortRange, err = proxier.ParsePortRange(c.portRange); err != nil {
		err = o.about("proxy-port-range", ": %v", err)
	}
	mark, fault := o.parseMark("mark", c.mark)
	cfg.Mark = mark
	return errors.Join(err, fault)
}

func (s *settings) parseMark(name, text string) (iptables.Mark, error) {
	value, mask, hasMask := strings.Cut(text, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	m := v
	if hasMask && err == nil {
		m, err = strconv.ParseUint(mask, 0, 32)
	}
	if err != nil || v == 0 || v&^m != 0 {
		return iptables.Mark{}, s.fault(name, text, "want VALUE or VALUE/MASK, not zero and inside the mask, as in 0x20/0x20")
	}
	return iptables.Mark{Value: uint32(v), Mask: uint32(m)}, nil
}
