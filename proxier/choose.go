package proxier

import (
	"context"
	"errors"
	"fmt"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/transparent"
)

// chooseCapture makes the capture that the configuration asks for, and the mark
// that our own connections need with it. It says what it chose, and why.
func (p *Proxier) chooseCapture(ctx context.Context, pollers *tcp.Pollers) (capture, uint32, error) {
	switch p.cfg.Capture {
	case "bind":
		p.captureWhy = "as asked for"
		p.cfg.Log.Info("capture=bind, as asked for: binding the Service addresses themselves")
		b, err := p.bind(ctx)
		return b, 0, err
	case "iptables":
		r, err := p.redirect(ctx, pollers)
		if err != nil {
			return nil, 0, fmt.Errorf("--capture=iptables: %w", err)
		}
		p.captureWhy = "as asked for"
		p.cfg.Log.Info("capture=iptables, as asked for: REDIRECT rules lead to the listeners")
		return r, r.mark.Value, nil
	case "auto":
		r, err := p.redirect(ctx, pollers)
		switch {
		case errors.Is(err, iptables.ErrUnavailable):
			p.captureWhy = fmt.Sprintf("because iptables cannot be used: %v", err)
			p.cfg.Log.WithError(err).Warn("capture=bind, because iptables cannot be used: binding the Service addresses themselves")
			b, err := p.bind(ctx)
			return b, 0, err
		case err != nil: // it could be used, were it not for this
			return nil, 0, fmt.Errorf("--capture=auto: %w", err)
		}
		p.captureWhy = "because it works here"
		p.cfg.Log.Info("capture=iptables, because it works here: REDIRECT rules lead to the listeners")
		return r, r.mark.Value, nil
	}
	return nil, 0, fmt.Errorf("--capture=%s: want auto, iptables or bind", p.cfg.Capture)
}

// markFor is the mark that our own connections have with a capture.
func (cfg *Config) markFor(capture string) uint32 {
	if capture == "bind" {
		return 0
	}
	return cfg.Mark.Value
}

// bind makes the capture that needs no rules. Those of an earlier usher would
// lead connections to listeners that are no more.
func (p *Proxier) bind(ctx context.Context) (capture, error) {
	if p.inheritance() != nil { // who handed over had none
		return newBind(&p.cfg, p.connectionsOf, p.wake)
	}
	for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		table, err := iptables.New(family)
		if err == nil {
			err = table.Cleanup(ctx)
		}
		if err != nil && !errors.Is(err, iptables.ErrUnavailable) {
			p.cfg.Log.WithError(err).Warn("cannot remove the rules of an earlier usher, if there are any: run usher cleanup")
		}
	}
	if err := p.source.remove(); err != nil {
		p.cfg.Log.WithError(err).Warn("cannot remove the policy routes of an earlier usher, if there are any: run usher cleanup")
	}
	return newBind(&p.cfg, p.connectionsOf, p.wake)
}

func (p *Proxier) redirect(ctx context.Context, pollers *tcp.Pollers) (*redirect, error) {
	if err := checkMark(p.cfg.Mark); err != nil {
		return nil, err
	}
	if p.cfg.ReturnMark == (iptables.Mark{}) { // what an earlier usher left would stay until we stop
		if err := p.source.remove(); err != nil {
			return nil, fmt.Errorf("remove the policy routes of an earlier usher: %w", err)
		}
	}
	return newRedirect(ctx, &p.cfg, p.source, pollers, p.inheritance)
}

// checkMark refuses a mark that policy routing would act on: our connections to
// the endpoints would be sent elsewhere.
func checkMark(mark iptables.Mark) error {
	rule, err := transparent.ForeignRule(mark)
	if err != nil || rule == "" {
		return err
	}
	return fmt.Errorf("packets marked %#x are routed by the rule %q (ip rule): choose another bit with --mark", mark.Value, rule)
}
