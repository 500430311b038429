package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// validate returns everything in the rules that cannot be rendered. Whatever
// passes is safe to write: names and interfaces are sanitised, and all else is
// a number or one of our own words.
func (r Rules) validate(f Family) error {
	var errs []error
	for _, d := range r.Redirects {
		if err := d.validate(f); err != nil {
			errs = append(errs, fmt.Errorf("redirect %q: %w", d.Name, err))
		}
	}
	if r.NodeAddr.IsValid() && !f.has(r.NodeAddr) {
		errs = append(errs, fmt.Errorf("node address %v is not %v", r.NodeAddr, f))
	}
	errs = append(errs,
		r.Mark.validate("mark"),
		r.Returning.validate("mark of returning packets"),
		r.Pods.validate(f),
		validatePrefixes(f, "NodePorts are on", r.NodePortsOn))
	if r.Returning.used() && r.Returning.Value == 0 {
		errs = append(errs, fmt.Errorf("mark of returning packets 0/%#x marks nothing", r.Returning.Mask))
	}
	if slices.Contains(r.Open, 0) {
		errs = append(errs, errors.New("an open port is 0"))
	}
	return errors.Join(errs...)
}

func (m Mark) validate(what string) error {
	if m.Value&^m.Mask != 0 {
		return fmt.Errorf("%s %#x has bits outside its mask %#x", what, m.Value, m.Mask)
	}
	return nil
}

func (p Pods) validate(f Family) error {
	errs := []error{validatePrefixes(f, "pods are in", p.Prefixes)}
	for _, name := range p.Interfaces {
		if err := CheckInterface(name); err != nil {
			errs = append(errs, fmt.Errorf("pods come in by interface %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// CheckInterface tells why a name cannot be one of Pods.Interfaces.
func CheckInterface(name string) error {
	if !matchable(strings.TrimSuffix(name, "+")) || len(name) >= unix.IFNAMSIZ {
		return errors.New("not the name of a network interface, nor how names begin with a + after it")
	}
	return nil
}

func validatePrefixes(f Family, what string, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if !f.hasPrefix(p) {
			return fmt.Errorf("%s %v: not %v, or bits are set beyond its length", what, p, f)
		}
	}
	return nil
}

func (d Redirect) validate(f Family) error {
	switch {
	case d.Protocol != TCP && d.Protocol != UDP:
		return fmt.Errorf("protocol %q is neither tcp nor udp", d.Protocol)
	case d.Addr.IsValid() && !f.has(d.Addr):
		return fmt.Errorf("address %v is not %v", d.Addr, f)
	case d.Port == 0:
		return errors.New("the frontend has no port")
	case d.To == 0:
		return errors.New("the listener has no port")
	}
	return validatePrefixes(f, "sources are in", d.Sources)
}
