package iptables

import (
	"errors"
	"fmt"
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
	if r.Mark.Value&^r.Mark.Mask != 0 {
		errs = append(errs, fmt.Errorf("mark %#x has bits outside its mask %#x", r.Mark.Value, r.Mark.Mask))
	}
	return errors.Join(errs...)
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
	return nil
}
