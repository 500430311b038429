package iptables

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Key tells listeners apart.
type Key struct {
	Name     string
	Protocol Protocol
}

// Assigned reads back from the kernel which listener port belongs to whom, so
// that a new process can listen where the rules of the last one already send
// connections to. A Name with several listeners of one protocol is given the
// lowest port; see Installed for all. It is empty, not an error, if there are
// no rules of ours.
func (t *Table) Assigned(ctx context.Context) (map[Key]uint16, error) {
	redirects, err := t.Installed(ctx)
	if err != nil {
		return nil, err
	}
	ports := map[Key]uint16{}
	for _, d := range redirects {
		key := Key{d.Name, d.Protocol}
		if port, ok := ports[key]; !ok || d.To < port {
			ports[key] = d.To
		}
	}
	return ports, nil
}

// Installed reads back from the kernel which frontends our rules capture, for
// whom and to which port. Rules that we could not have written are left out.
func (t *Table) Installed(ctx context.Context) ([]Redirect, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var redirects []Redirect
	for _, chain := range []string{redirectBranch.services, redirectBranch.nodePorts} {
		lines, err := t.list(ctx, nat, chain)
		if err != nil {
			return nil, fmt.Errorf("read %v rules back: %w", t.family, err)
		}
		for _, l := range lines {
			if d, ok := parseRedirect(l); ok && d.validate(t.family) == nil {
				redirects = append(redirects, d)
			}
		}
	}
	return redirects, nil
}

// parseRedirect reads a rule that frontendRules wrote, as iptables -S prints it.
func parseRedirect(rule string) (Redirect, bool) {
	var d Redirect
	var ok bool
	for flag, value := range flags(rule) {
		ok = true
		switch flag {
		case "-A", "-m":
		case "-d":
			prefix, err := netip.ParsePrefix(value)
			ok = err == nil && prefix.IsSingleIP()
			d.Addr = prefix.Addr()
		case "-p":
			d.Protocol = Protocol(value)
		case "--comment":
			d.Name = value
		case "--dport":
			d.Port, ok = parsePort(value)
		case "-j":
			ok = value == "REDIRECT"
		case "--to-ports":
			d.To, ok = parsePort(value)
		default:
			ok = false
		}
		if !ok {
			return Redirect{}, false
		}
	}
	return d, ok
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	return uint16(n), err == nil
}
