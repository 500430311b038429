package cli

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// timingOptions say when changes take effect.
type timingOptions struct{ minSync, sync, drain time.Duration }

func (t *timingOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&t.minSync, "min-sync-period", 20*time.Millisecond, "between two passes in a burst of changes")
	alias(f, "iptables-min-sync-period", "min-sync-period", nil)
	f.DurationVar(&t.sync, "sync-period", 30*time.Second, "between two passes when nothing changes")
	alias(f, "iptables-sync-period", "sync-period", nil)
	f.DurationVar(&t.drain, "drain-timeout", 30*time.Second, "for connections to end by themselves when usher is stopped")
}

func (t *timingOptions) configure(o *options, cfg *proxier.Config) error {
	cfg.MinSyncPeriod, cfg.SyncPeriod, cfg.DrainTimeout = t.minSync, t.sync, t.drain
	return o.between(
		bounds{"sync-period", t.sync, time.Second, time.Hour},
		bounds{"min-sync-period", t.minSync, 0, t.sync},
		bounds{"drain-timeout", t.drain, 0, 24 * time.Hour},
	)
}
