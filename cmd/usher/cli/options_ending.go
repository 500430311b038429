package cli

import (
	"errors"
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// endingOptions say when connections end that do not end by themselves.
type endingOptions struct {
	halfClose   time.Duration
	idle        string
	duration    string
	keepAlive   string
	userTimeout string
	drain       string
	unready     string
}

func (e *endingOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&e.halfClose, "half-close-timeout", time.Hour, "how long one side may be silent after the other one has closed")
	f.StringVar(&e.idle, "idle-timeout", "off", "`duration` that a TCP connection may go on while no byte moves, 1s to 24h, or off")
	f.StringVar(&e.duration, "max-connection-duration", "off", "`duration` that a TCP connection may go on whatever moves, 1s to 720h, or off")
	f.StringVar(&e.keepAlive, "tcp-keepalive", "30s,15s,4", "when the kernel asks a client or an endpoint for a sign of life that says nothing: `IDLE[,INTERVAL[,COUNT]]`, or off")
	f.StringVar(&e.userTimeout, "tcp-user-timeout", "off", "`duration` that a client or an endpoint may leave unacknowledged what was sent to it, or not read it, 1s to 1h, or off: as the kernel has it")
	f.StringVar(&e.drain, "endpoint-drain-timeout", "off", "`duration` that connections to an endpoint that leaves may go on, 0 to 1h, or off: as long as they like")
	f.StringVar(&e.unready, "on-endpoint-unready", "keep", "what becomes of connections to an endpoint that is not ready any more: keep, drain or reset")
}

func (e *endingOptions) configure(o *options, cfg *proxier.Config) error {
	cfg.Service.Relay.HalfClose = e.halfClose
	err := o.between(bounds{"half-close-timeout", e.halfClose, time.Second, 24 * time.Hour})
	return errors.Join(err, o.asAnnotated(cfg,
		said{"idle-timeout", "idle-timeout", e.idle},
		said{"max-connection-duration", "max-connection-duration", e.duration},
		said{"tcp-keepalive", "tcp-keepalive", e.keepAlive},
		said{"tcp-user-timeout", "tcp-user-timeout", e.userTimeout},
		said{"endpoint-drain-timeout", "drain-timeout", e.drain},
		said{"on-endpoint-unready", "on-endpoint-unready", e.unready},
	))
}
