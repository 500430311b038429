package cli

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// endingOptions say when connections end that do not end by themselves.
type endingOptions struct {
	halfClose time.Duration
	drain     string
	unready   string
}

func (e *endingOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&e.halfClose, "half-close-timeout", time.Hour, "how long one side may be silent after the other one has closed")
	f.StringVar(&e.drain, "endpoint-drain-timeout", "off", "`duration` that connections to an endpoint that leaves may go on, 0 to 1h, or off: as long as they like")
	f.StringVar(&e.unready, "on-endpoint-unready", "keep", "what becomes of connections to an endpoint that is not ready any more: keep, drain or reset")
}

func (e *endingOptions) configure(o *options, cfg *proxier.Config) error {
	cfg.Service.HalfClose = e.halfClose
	if err := o.between(bounds{"half-close-timeout", e.halfClose, time.Second, 24 * time.Hour}); err != nil {
		return err
	}
	return o.asAnnotated(cfg,
		said{"endpoint-drain-timeout", "drain-timeout", e.drain},
		said{"on-endpoint-unready", "on-endpoint-unready", e.unready},
	)
}
