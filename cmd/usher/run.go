package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/source"
)

func newRun() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve the Services of a cluster, or of YAML files",
		Long: `run watches Services and EndpointSlices and serves them on this node until it is
stopped (SIGTERM or SIGINT); then it takes its iptables rules away and lets open
connections end. A second signal ends it at once.`,
		Example: `  usher run --kubeconfig /etc/usher/kubeconfig
  usher run --manifests ./services/ --capture=bind`,
		Args: noArgs,
	}
	o.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd, &o) }
	return cmd
}

func serve(cmd *cobra.Command, o *options) error {
	cfg, err := o.config(cmd.Flags())
	if err != nil {
		return err
	}
	if cfg.Log, err = newLogger(cmd.ErrOrStderr(), o.level(cmd.Flags()), o.logFormat); err != nil {
		return err
	}
	cfg.Log.Infof("usher %s", version)
	if cfg.NodeName, err = o.node(); err != nil {
		return err
	}
	if cfg.Source, err = o.source(cmd.Context(), &cfg); err != nil {
		return err
	}
	cfg.Registry = prometheus.NewRegistry()
	cfg.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p, err := proxier.New(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	return p.Run(cmd.Context())
}

func (o *options) source(ctx context.Context, cfg *proxier.Config) (source.Source, error) {
	if len(o.manifests) > 0 {
		return source.NewManifests(o.manifests, cfg.NodeName, cfg.Log)
	}
	config, err := source.RESTConfig(o.kubeconfig, o.master)
	if err != nil {
		return nil, err
	}
	if err := source.CheckAPIAddress(ctx, config, proxier.Leftover(ctx), cfg.Log); err != nil {
		return nil, err
	}
	return source.NewAPI(source.Config{REST: config, NodeName: cfg.NodeName, Log: cfg.Log})
}
