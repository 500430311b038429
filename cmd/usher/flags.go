package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
)

// options are the flags of usher run.
type options struct {
	kubeconfig, master string
	manifests          []string
	nodeName           string

	capture   string
	portRange string
	mark      string

	balancer  string
	retries   int
	connect   time.Duration
	total     time.Duration
	halfClose time.Duration

	minSync, sync, drain time.Duration

	logLevel, logFormat string
	verbosity           int
	healthz, metrics    string
}

// flagGroup is a part of the flags, with a title in the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

func (o *options) groups() []flagGroup {
	group := func(title string, define func(*pflag.FlagSet)) flagGroup {
		f := pflag.NewFlagSet(title, pflag.ContinueOnError)
		f.SortFlags = false
		define(f)
		return flagGroup{title, f}
	}
	return []flagGroup{
		group("Where Services come from", func(f *pflag.FlagSet) {
			f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` with the address and credentials of the API server (default: in-cluster credentials)")
			f.StringVar(&o.master, "master", "", "`address` of a real API server; replaces only the host, never token or CA")
			f.StringArrayVar(&o.manifests, "manifests", nil, "YAML `path`, file or folder, to read objects from and to watch, instead of an API server; repeatable")
			f.StringVar(&o.nodeName, "node-name", "", "`name` of the own Node object (default: the host name, in lower case)")
			f.StringVar(&o.nodeName, "hostname-override", "", "the same as --node-name")
		}),
		group("How connections get here", func(f *pflag.FlagSet) {
			f.StringVar(&o.capture, "capture", "auto", "iptables (REDIRECT rules), bind (bind the Service addresses), or auto: iptables if it works")
			f.StringVar(&o.portRange, "proxy-port-range", "11000-29999", "`ports` of listeners for redirected connections")
			f.StringVar(&o.mark, "mark", "0x2000/0x2000", "packet mark, `value[/mask]`, of usher's own connections, which iptables then leaves alone")
		}),
		group("Which endpoint, and what if it fails", func(f *pflag.FlagSet) {
			f.StringVar(&o.balancer, "balancer", "round-robin", "policy that picks endpoints: "+strings.Join(balancer.Names(), ", "))
			f.IntVar(&o.retries, "retries", 3, "further endpoints to try when a connect fails, `0 to 8`")
			f.DurationVar(&o.connect, "connect-timeout", 2*time.Second, "for one attempt to connect to an endpoint")
			f.DurationVar(&o.total, "total-connect-timeout", 10*time.Second, "for all attempts of one connection")
			f.DurationVar(&o.halfClose, "half-close-timeout", time.Hour, "how long one side may be silent after the other one has closed")
		}),
		group("When changes take effect", func(f *pflag.FlagSet) {
			f.DurationVar(&o.minSync, "min-sync-period", 20*time.Millisecond, "between two passes in a burst of changes")
			f.DurationVar(&o.sync, "sync-period", 30*time.Second, "between two passes when nothing changes")
			f.DurationVar(&o.drain, "drain-timeout", 30*time.Second, "for connections to end by themselves when usher is stopped")
		}),
		group("What can be seen", func(f *pflag.FlagSet) {
			f.StringVar(&o.logLevel, "log-level", "info", "error, warning (no records of connections that went well), info, debug or trace")
			f.IntVarP(&o.verbosity, "v", "v", 0, "log level as a `number`: up to 3 is info, up to 5 debug, above that trace")
			f.StringVar(&o.logFormat, "log-format", "text", "text or json")
			f.StringVar(&o.healthz, "healthz-bind-address", "0.0.0.0:10256", "`address:port` of /healthz and /livez; empty serves none")
			f.StringVar(&o.metrics, "metrics-bind-address", "127.0.0.1:10249", "`address:port` of /metrics; empty serves none")
		}),
	}
}

// addTo defines the flags on cmd and groups them in its help.
func (o *options) addTo(cmd *cobra.Command) {
	groups := o.groups()
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	cmd.Flags().SortFlags = false
	cmd.SetUsageFunc(func(c *cobra.Command) error {
		fmt.Fprintf(c.OutOrStdout(), "Usage:\n  %s\n", c.UseLine())
		for _, g := range groups {
			fmt.Fprintf(c.OutOrStdout(), "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(100))
		}
		fmt.Fprintf(c.OutOrStdout(), "\nExamples:\n%s\n", c.Example)
		return nil
	})
}

// config checks the flags, alone and together, and turns them into values.
func (o *options) config(flags *pflag.FlagSet) (cfg proxier.Config, err error) {
	if err := o.check(flags); err != nil {
		return cfg, usageError{err}
	}
	ports, err := proxier.ParsePortRange(o.portRange)
	if err != nil {
		return cfg, usageError{fmt.Errorf("--proxy-port-range: %w", err)}
	}
	mark, err := parseMark(o.mark)
	if err != nil {
		return cfg, usageError{err}
	}
	return proxier.Config{
		Capture: o.capture, ProxyPortRange: ports, Mark: mark,
		AllowLoopbackEndpoints: len(o.manifests) > 0,
		Balancer:               o.balancer,
		Retry:                  proxier.Retry{Attempts: o.retries + 1, Timeout: o.connect, Total: o.total},
		HalfCloseTimeout:       o.halfClose,
		MinSyncPeriod:          o.minSync, SyncPeriod: o.sync, DrainTimeout: o.drain,
		HealthzAddress: o.healthz, MetricsAddress: o.metrics,
	}, nil
}

func (o *options) check(flags *pflag.FlagSet) error {
	if len(o.manifests) > 0 && (o.kubeconfig != "" || o.master != "") {
		return errors.New("--manifests takes the place of an API server: it cannot be combined with --kubeconfig or --master")
	}
	if flags.Changed("node-name") && flags.Changed("hostname-override") {
		return errors.New("--node-name and --hostname-override are the same: give one of them")
	}
	if flags.Changed("log-level") && flags.Changed("v") {
		return errors.New("--log-level and -v are the same: give one of them")
	}
	switch o.capture {
	case "auto", "iptables", "bind":
	default:
		return fmt.Errorf("--capture=%s: want auto, iptables or bind", o.capture)
	}
	for _, flag := range []string{"proxy-port-range", "mark"} {
		if o.capture == "bind" && flags.Changed(flag) {
			return fmt.Errorf("--%s is about redirected connections: --capture=bind has none", flag)
		}
	}
	for flag, addr := range map[string]string{"healthz-bind-address": o.healthz, "metrics-bind-address": o.metrics} {
		if err := checkBindAddress(addr); err != nil {
			return fmt.Errorf("--%s=%s: %w", flag, addr, err)
		}
	}
	if _, err := balancer.New(o.balancer); err != nil {
		return fmt.Errorf("--balancer: %w", err)
	}
	if o.retries < 0 || o.retries > 8 {
		return fmt.Errorf("--retries=%d: want 0 to 8", o.retries)
	}
	for _, d := range []struct {
		flag     string
		value    time.Duration
		min, max time.Duration
	}{
		{"connect-timeout", o.connect, 50 * time.Millisecond, time.Minute},
		{"total-connect-timeout", o.total, o.connect, 10 * time.Minute},
		{"half-close-timeout", o.halfClose, time.Second, 24 * time.Hour},
		{"min-sync-period", o.minSync, 0, o.sync},
		{"sync-period", o.sync, time.Second, time.Hour},
		{"drain-timeout", o.drain, 0, 24 * time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			return fmt.Errorf("--%s=%s: want %s to %s", d.flag, d.value, d.min, d.max)
		}
	}
	return nil
}

// checkBindAddress accepts IP:port, :port, and nothing at all.
func checkBindAddress(addr string) error {
	if addr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want ADDRESS:PORT, or nothing to serve none")
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil {
		return fmt.Errorf("%q is not an IP address", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port number", port)
	}
	return nil
}

// level is the log level that -v or --log-level asks for.
func (o *options) level(flags *pflag.FlagSet) string {
	switch {
	case !flags.Changed("v"):
		return o.logLevel
	case o.verbosity <= 3:
		return "info"
	case o.verbosity <= 5:
		return "debug"
	}
	return "trace"
}

// node is the name of the own Node object. It has to equal the nodeName of
// EndpointSlices to the letter, which is in lower case.
func (o *options) node() (string, error) {
	name := strings.ToLower(strings.TrimSpace(o.nodeName))
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("find the host name: %w (give --node-name)", err)
		}
		name = strings.ToLower(host)
	}
	return name, nil
}

func parseMark(text string) (iptables.Mark, error) {
	value, mask, hasMask := strings.Cut(text, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	m := v
	if hasMask && err == nil {
		m, err = strconv.ParseUint(mask, 0, 32)
	}
	if err != nil || v == 0 || v&^m != 0 {
		return iptables.Mark{}, fmt.Errorf("--mark=%s: want VALUE or VALUE/MASK, not zero and inside the mask, as in 0x2000/0x2000", text)
	}
	return iptables.Mark{Value: uint32(v), Mask: uint32(m)}, nil
}
