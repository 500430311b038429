package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/admin"
)

// adminOptions say where a running usher is asked, by run and by those who ask.
type adminOptions struct{ socket string }

func (a *adminOptions) define(f *pflag.FlagSet) {
	f.StringVar(&a.socket, "admin-socket", admin.DefaultSocket(),
		"`path` of the unix socket at which a running usher tells what it does, to its owner and the group usher; empty: none "+
			"(an ordinary user: $XDG_RUNTIME_DIR/usher.sock)")
}

func (a *adminOptions) configure(o *options, cfg *proxier.Config) error {
	if a.socket != "" {
		if err := admin.CheckPath(a.socket); err != nil {
			return o.fault("admin-socket", a.socket, "%w", err)
		}
	}
	cfg.AdminSocket, cfg.Version = a.socket, version
	return nil
}

// check is for those who ask, and need one.
func (a *adminOptions) check() error {
	if err := admin.CheckPath(a.socket); err != nil {
		return usageError{fmt.Errorf("--admin-socket=%s: %w", a.socket, err)}
	}
	return nil
}
