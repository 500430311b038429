package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
)

// probe reads what Sync will read, and then writes a rule of every kind into
// chains that nothing jumps to, and removes them, in one run. The commands that
// read also tell a missing permission better than iptables-restore does.
func (t *Table) probe(ctx context.Context) error {
	for _, j := range jumps {
		if _, err := t.find(ctx, j); err != nil {
			return err
		}
	}
	sections := probeSections(t.family)
	return t.restore(ctx, text(sections)+removal(sections))
}

// probeSections gathers in one chain of each table all the rules of a small
// layout. What only some nodes need has a probe of its own (see CanReturn).
func probeSections(f Family) []section {
	local := f.loopback()
	sections := layout(f, Rules{
		Redirects: []Redirect{
			{Name: "probe", Protocol: TCP, Addr: local.Addr(), Port: 1, To: 1, Here: true, Sources: []netip.Prefix{local}},
			{Name: "probe", Protocol: UDP, Addr: local.Addr(), Port: 1, To: 1},
		},
		Mark:          Mark{Value: 1, Mask: 1},
		Numbered:      []string{"lo"},
		NodeAddr:      local.Addr(),
		Pods:          Pods{Prefixes: []netip.Prefix{local}, Interfaces: []string{"probe+"}},
		NodePortsOn:   []netip.Prefix{local},
		NotOnLoopback: true,
		Open:          []uint16{1},
	})
	for i, s := range sections {
		probe := chain{name: probeChain}
		for _, c := range s.chains {
			for _, rule := range c.rules {
				probe.rules = append(probe.rules, withoutJump(rule))
			}
		}
		sections[i].chains = []chain{probe}
	}
	return sections
}

// withoutJump lets a rule that leads to another chain of ours return instead,
// as that chain is not there.
func withoutJump(rule string) string {
	for _, flag := range []string{"-j ", "-g "} {
		if match, target, ok := strings.Cut(rule, flag); ok && owned(target) {
			return match + "-j RETURN"
		}
	}
	return rule
}

// unavailable tells what to do about an iptables that does not work. A lock
// that somebody holds is not a reason to do without iptables.
func unavailable(f Family, err error) error {
	const denied = "Permission denied"
	switch said := err.Error(); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%v: %w: try again", f, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%v: %w: %w: run as root, with CAP_NET_ADMIN", f, ErrUnavailable, err)
	case strings.Contains(said, denied):
		return fmt.Errorf("%v: %w: %w: run as root, with CAP_NET_ADMIN: %w", f, ErrUnavailable, fs.ErrPermission, err)
	case lockHeld(err):
		return fmt.Errorf("%v: %w: try again", f, err)
	}
	return fmt.Errorf("%v: %w: %w", f, ErrUnavailable, err)
}
