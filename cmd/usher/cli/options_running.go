package cli

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// runningOptions say how usher lives beside the others on its node.
type runningOptions struct {
	readyTimeout   time.Duration
	keepPrivileges bool
}

func (r *runningOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&r.readyTimeout, "ready-timeout", 0, "after which systemd is told that usher is ready even if it does not serve yet, up to 24h; 0: never")
	f.BoolVar(&r.keepPrivileges, "keep-privileges", false, "keep all capabilities that usher was started with, not only "+keptNames())
}

func (r *runningOptions) configure(o *options, _ *proxier.Config) error {
	return o.between(bounds{"ready-timeout", r.readyTimeout, 0, 24 * time.Hour})
}
