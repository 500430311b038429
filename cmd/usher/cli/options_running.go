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
	leaveRules     bool
}

func (r *runningOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&r.readyTimeout, "ready-timeout", 0, "after which systemd is told that usher is ready even if it does not serve yet, up to 24h; 0: never")
	f.BoolVar(&r.takeOver, "take-over", false, "go on with what an usher serves that answers at --admin-socket, and wait for SIGTERM once another one has taken over")
	f.BoolVar(&r.keepPrivileges, "keep-privileges", false, "keep all capabilities that usher was started with, not only "+keptNames())
	f.BoolVar(&r.leaveRules, "leave-rules", false, "leave the rules in the kernel when usher is stopped, for another usher to go on with; until then clients of Services are refused")
}

func (r *runningOptions) configure(o *options, cfg *proxier.Config) error {
	if r.takeOver && o.admin.socket == "" {
		return o.about("take-over", " needs the other usher's --admin-socket")
	}
	cfg.LeaveRules = r.leaveRules
	return o.between(bounds{"ready-timeout", r.readyTimeout, 0, 24 * time.Hour})
}
