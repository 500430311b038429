package cli

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/admin"
)

// takeOver takes over from the usher that serves the node, if --take-over asks for it and
// there is one.
func (o *options) takeOver(ctx context.Context, cfg *proxier.Config) error {
	if !o.running.takeOver || cfg.Inherited != nil { // it is an upgrade of one that has done so
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, proxier.TakeOverTime)
	defer cancel()
	there, err := admin.Listened(limited, cfg.AdminSocket)
	if err == nil && !there {
		cfg.Log.Infof("handover: nobody listens to %s, so there is nothing to take over", cfg.AdminSocket)
		return nil
	}
	if err == nil {
		err = o.takeOverFrom(limited, cfg)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil && limited.Err() != nil:
		return fmt.Errorf("--take-over: after %s: %v", proxier.TakeOverTime, err)
	case err != nil:
		return fmt.Errorf("--take-over: %v", err) // whatever it is, it is not that nobody can be asked
	}
	cfg.Log.Infof("handover: has taken over from the usher at %s", cfg.AdminSocket)
	return nil
}

// takeOverFrom has everything prepared before that one is asked.
func (o *options) takeOverFrom(ctx context.Context, cfg *proxier.Config) (err error) {
	if cfg.Source, err = o.source.open(ctx, cfg, true); err != nil {
		return err
	}
	cfg.OpenSource = nil
	return proxier.TakeOver(ctx, cfg)
}

// park is what is left to do once another process has taken over. With --take-over of its own
// this one then waits for SIGTERM: the kubelet would start a container that has ended once
// more, and that would take over in its turn.
func (o *options) park(ctx context.Context, log logrus.FieldLogger, to string) {
	if !o.running.takeOver {
		log.Infof("handover: handed over to %s", to)
		return
	}
	log.Infof("handover: handed over to %s, and waiting for SIGTERM", to)
	debug.FreeOSMemory()
	<-ctx.Done()
}
