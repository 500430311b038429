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
// whom and to which port. Prefixes and interfaces of pods are not told, only
// Here. Rules that we could not have written are left out.
func (t *Table) Installed(ctx context.Context) ([]Redirect, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	there, err := t.actual(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %v rules back: %w", t.family, err)
	}
	w := walk{t.family, map[string][]string{}}
	for _, c := range find(there, nat).chains {
		w.unread[c.name] = c.rules
	}
	return append(w.redirects(redirectBranch.services), w.redirects(redirectBranch.nodePorts)...), nil
}

// walk follows the rules that lead from chain to chain. Each is read once, as
// somebody may have made them lead in a circle.
type walk struct {
	family Family
	unread map[string][]string
}

func (w *walk) redirects(chain string) []Redirect {
	rules := w.unread[chain]
	delete(w.unread, chain)
	all := parseRedirects(w.family, rules)
	for _, rule := range rules {
		if next := leadsTo(rule); owned(next) {
			all = append(all, w.redirects(next)...)
		}
	}
	return all
}

// parseRedirects reads the rules of a chain, each without its -A. Those of one redirect follow each
// other.
func parseRedirects(f Family, rules []string) []Redirect {
	var all []Redirect
	for _, rule := range rules {
		d, c, ok := parseRule(rule)
		switch {
		case !ok || d.validate(f) != nil:
		case len(all) > 0 && all[len(all)-1].continues(d, c):
			all[len(all)-1].add(c)
		default:
			d.add(c)
			all = append(all, d)
		}
	}
	return all
}

// continues says whether the next rule may be of the same redirect: one for
// everybody is the only one of its redirect, and the one for processes of the
// node comes first.
func (d Redirect) continues(next Redirect, c clients) bool {
	restricted, here := d.Here || len(d.Sources) > 0, d.Here
	d.Here, d.Sources = false, nil
	narrower := c != clients{} && (here || c == clients{from: c.from})
	return restricted && narrower && compare(d, next) == 0
}

// add takes the clients of one of its rules into the redirect. Whether a prefix
// holds pods or other sources, the rule before it tells.
func (d *Redirect) add(c clients) {
	if c.processes || c.in != "" {
		d.Here = true
	}
	if c.from.IsValid() && (c.processes || !d.Here) {
		d.Sources = append(d.Sources, c.from)
	}
}

// parseRule reads a rule of Redirect.rules, as iptables-save prints it.
func parseRule(rule string) (d Redirect, c clients, ok bool) {
	for flag, value := range flags(rule) {
		ok = true
		switch flag {
		case "-A", "-m":
		case "-s":
			c.from, ok = parsePrefix(value)
		case "-d":
			var prefix netip.Prefix
			prefix, ok = parsePrefix(value)
			ok = ok && prefix.IsSingleIP()
			d.Addr = prefix.Addr()
		case "-i":
			c.in = value
		case "-p":
			d.Protocol = Protocol(value)
		case "--src-type":
			c.processes, ok = true, value == "LOCAL"
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
			return Redirect{}, clients{}, false
		}
	}
	return d, c, ok
}

func parsePrefix(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	return uint16(n), err == nil
}
