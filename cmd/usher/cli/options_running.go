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
	takeOver       bool
}

func (r *runningOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&r.readyTimeout, "ready-timeout", 0, "after which systemd is told that usher is ready even if it does not serve yet, up to 24h; 0: never")
	f.BoolVar(&r.takeOver, "take-over", false, "go on with what an usher serves that answers at --admin-socket, and wait for SIGTERM once another one has taken over")
	f.BoolVar(&r.keepPrivileges, "keep-privileges", false, "keep all capabilities that usher was started with, not only "+keptNames())
}

func (r *runningOptions) configure(o *options, _ *proxier.Config) error {
	if r.takeOver && o.admin.socket == "" {
		return o.about("take-over", " needs the other usher's --admin-socket")
	}
	return o.between(bounds{"ready-timeout", r.readyTimeout, 0, 24 * time.Hour})
}
