package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/systemd"
)

func newRun(own Policies) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve the Services of a cluster, or of YAML files",
		Long: `run watches Services and EndpointSlices and serves them on this node until it is
stopped (SIGTERM or SIGINT); then it takes its iptables rules away and lets open
connections end. A second signal ends it at once.

With --take-over it goes on with all that another usher run on this node serves, which
answers at the admin socket, and no connection ends: a container of a new version takes
the place of the old one. First it proves itself; if that fails, or it takes longer than
nine seconds, the other one goes on and this one ends with exit code 1. If nobody answers
it starts as usual. The old one then ends with exit code 0; if it was given --take-over
itself, as in a container that would be started again, it waits for SIGTERM.

Settings come from the command line, else from the file that --config names, else
they are the defaults below; usher config show tells which it is. In a file of the kind
UsherConfiguration each flag is a key in lowerCamelCase (--node-name is nodeName), and
an unknown key is an error; --write-config-to writes one. A KubeProxyConfiguration and
kube-proxy's command line are accepted too: what has no meaning here is named in the
log. Unlike in kube-proxy, any flag on the command line wins over the file, not only
--hostname-override and those of the log.`,
		Example: `  usher run --kubeconfig /etc/usher/kubeconfig
  usher run --manifests ./services/ --capture=bind
  usher run --service-proxy-name=usher           # beside kube-proxy
  usher run --config=/etc/usher/usher.yaml --take-over
  usher run --config=/var/lib/kube-proxy/config.conf --hostname-override=$(NODE_NAME)`,
		Args: noArgs,
	}
	o := newOptions(own)
	o.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := serve(cmd, o)
		if err != nil && cmd.Context().Err() == nil && !handover.InTrial() {
			_ = systemd.Notify(systemd.Status(complaint(err))) // it is also on stderr
		}
		return err
	}
	return cmd
}

func serve(cmd *cobra.Command, o *options) error {
	stored, storeErr := systemd.Stored() // before anything else opens files
	received, err := handover.Received()
	if err != nil {
		return err
	}
	if received != nil {
		collectNothing()
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if o.file.writeTo != "" {
		return o.writeTo(o.file.writeTo, cmd.OutOrStdout())
	}
	// Without this the first write to a stderr that nobody reads any more ends the process.
	// To ignore the signal would have the programs that usher runs ignore it too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	logs, err := openLogs(cmd.ErrOrStderr(), &o.seen)
	if err != nil {
		return err
	}
	defer logs.close()
	cfg.Log, cfg.RecordLog = logs.messages, logs.records
	cfg.Log.Infof("usher %s", version)
	o.tell(cfg.Log)
	if storeErr != nil {
		cfg.Log.Warn(storeErr)
	}
	if received != nil {
		if cfg.Inherited, err = proxier.Inherit(*received, &cfg); err != nil {
			return err
		}
	}
	if handover.InTrial() {
		return try(cmd.Context(), o, cfg)
	}
	o.kernel.apply(cfg.Log)
	cfg.OpenSource = func() (source.Source, error) { return o.source.open(cmd.Context(), &cfg, cfg.Inherited != nil) }
	manager := supervise(cmd.Context(), &cfg, o.running.readyTimeout, stored)
	if err := o.takeOver(cmd.Context(), &cfg); err != nil {
		return err
	}
	next, err := newSuccessor(logs)
	if err != nil {
		return err
	}
	cfg.Successor, next.store = next, manager.fdStore()
	cfg.Registry = prometheus.NewRegistry()
	cfg.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	logs.measure(cfg.Registry)
	cfg.Configz, cfg.Settings = o.configz(&cfg), o.origins()
	to, err := o.runProxier(cmd.Context(), cfg, manager)
	if err == nil && to != "" {
		o.park(cmd.Context(), cfg.Log, to)
	}
	return err
}

// try proves to the process that is to be upgraded that this program can go on in its place.
func try(ctx context.Context, o *options, cfg proxier.Config) (err error) {
	if cfg.Source, err = o.source.open(ctx, &cfg, true); err != nil {
		return err
	}
	if cfg.Inherited == nil {
		return errors.New("no state was handed over")
	}
	if err := cfg.Inherited.Check(); err != nil {
		return err
	}
	return handover.Good()
}

// gcPercent trades CPU time for memory: most of what usher holds are Services that
// rarely change. $GOGC says otherwise.
const gcPercent = 25

// ballast is memory that counts as in use, although nothing is ever written to it and so
// the kernel provides none: with few Services a quarter of what they take is soon made by
// connections, and every hundred or so would pay for a collection. With it there are 2 MB
// between two at least.
const ballast = 8 << 20

// cores are those that the runtime has found, by its CPUs or a cgroup's limit.
var cores = runtime.GOMAXPROCS(0)

// collectNothing is for the moment in which connections wait: collectGarbage ends it.
func collectNothing() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(-1)
	}
}

// collectGarbage has the runtime collect it as often as usher needs, until the end.
func collectGarbage() (end func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	debug.SetGCPercent(gcPercent)
	unused := make([]byte, ballast)
	return func() { runtime.KeepAlive(unused) }
}

// runProxier returns who has taken over, if that is why it has ended.
func (o *options) runProxier(ctx context.Context, cfg proxier.Config, manager *supervised) (to string, err error) {
	if cfg.Inherited == nil {
		defer collectGarbage()()
	}
	if cfg.Cores = cores; os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(cores + 1) // as tcp.NewPollers asks for
	}
	inherits, starting := cfg.Inherited != nil, ctx
	if inherits { // it is here and nowhere else: first to serve it, then to stop
		collectNothing()
		starting = context.WithoutCancel(ctx)
	}
	p, err := proxier.New(starting, cfg)
	if err != nil {
		return "", err
	}
	if inherits { // until now connections would have waited for it
		defer collectGarbage()()
	}
	if err := o.limitPrivileges(cfg.Log); err != nil {
		return "", err
	}
	defer upgradeOnHangup(ctx, p, cfg.Log)()
	defer o.file.onChange(ctx, cfg.Log, func() { p.Upgrade(ctx, nil) })() // what is wrong is logged
	err = manager.run(ctx, p)
	return p.HandedOver(), err
}
