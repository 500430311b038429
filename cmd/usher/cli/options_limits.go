package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/annotation"
)

// limitOptions bound the connections.
type limitOptions struct {
	all, perService, perEndpoint, perClient int
	rate, onLimit                           string
	ignore                                  []string
}

func (l *limitOptions) define(f *pflag.FlagSet) {
	f.IntVar(&l.all, "max-connections", 0, "`number` of TCP connections in all; 0 is as many as the files that usher may open allow")
	f.IntVar(&l.perService, "max-connections-per-service", 0, "those that one port of a Service may have; 0 is any `number`")
	f.IntVar(&l.perEndpoint, "max-connections-per-endpoint", 0, "those of one port of a Service to one endpoint; 0 is any `number`")
	f.IntVar(&l.perClient, "max-connections-per-client", 0, "those of one port of a Service from one client address; 0 is any `number`")
	f.StringVar(&l.rate, "connection-rate", "off", "`rate` at which connections may begin at one port of a Service: off, N/s, or N/s,BURST with how many at once")
	f.StringSliceVar(&l.ignore, "ignore-annotations", nil, "`names` of annotations, without usher-proxy.io/, that Services may not use on this node")
	f.StringVar(&l.onLimit, "on-limit", "reset", "what becomes of a connection beyond a limit: reset, or wait:DURATION up to 30s")
}

func (l *limitOptions) configure(o *options, cfg *proxier.Config) error {
	const most = 1_000_000
	var errs []error
	if l.all < 0 || l.all > most {
		errs = append(errs, o.fault("max-connections", fmt.Sprint(l.all), "want 0 to %d", most))
	}
	cfg.MaxConnections = l.all
	for _, name := range l.ignore {
		if !slices.ContainsFunc(annotation.Docs(), func(d annotation.Doc) bool { return d.Name == name }) {
			errs = append(errs, o.fault("ignore-annotations", name, "there is no annotation %s%s", annotation.Prefix, name))
		}
	}
	cfg.IgnoreAnnotations = l.ignore
	return errors.Join(errors.Join(errs...), o.asAnnotated(cfg,
		said{"max-connections-per-service", "max-connections", fmt.Sprint(l.perService)},
		said{"max-connections-per-endpoint", "max-connections-per-endpoint", fmt.Sprint(l.perEndpoint)},
		said{"max-connections-per-client", "max-connections-per-client", fmt.Sprint(l.perClient)},
		said{"connection-rate", "connection-rate", l.rate},
		said{"on-limit", "on-limit", l.onLimit},
	))
}
