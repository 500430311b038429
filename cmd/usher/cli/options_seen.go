package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

// seenOptions say what usher shows of itself.
type seenOptions struct {
	logLevel, logFormat string
	logFile             string
	logFileSize         int // MiB
	logFiles            int
	logConnections      string
	maxErrors           int
	tcpInfo             string
	ring                int
	maxSeries           int
	healthz, metrics    string
	hardFail            bool
	profiling           bool
}

func (s *seenOptions) define(f *pflag.FlagSet) {
	f.StringVar(&s.logLevel, "log-level", "info", "error, warning (no records of connections that went well), info, debug or trace")
	v := alias(f, "v", "log-level", (*verbosity)(&s.logLevel))
	v.Shorthand, v.Usage = "v", "log level as a `number`: up to 3 is info, up to 5 debug, above that trace"
	f.StringVar(&s.logFormat, "log-format", "text", "text or json")
	alias(f, "logging-format", "log-format", nil)
	f.StringVar(&s.logFile, "log-file", "", "`path` of a file for the records of connections and UDP sessions, as one JSON object a line; without one they go to stderr, as messages of usher itself always do")
	f.IntVar(&s.logFileSize, "log-file-max-size", observe.FileSize>>20, "size in `MiB` at which the file becomes PATH.1 and another one is begun; 0 is any. Somebody else may move it too: that needs no signal")
	f.IntVar(&s.logFiles, "log-file-max-files", observe.Files, "`number` of old files that are kept, as PATH.1 and so on")
	f.StringVar(&s.logConnections, "log-connections", "all", "which connections and UDP sessions have a line in the log: all, errors, off, or 1/N: one of N that went well, and all others. Metrics count all")
	f.IntVar(&s.maxErrors, "log-max-errors", 100, "`number` of records of one reason of one port of a Service that are logged within 10 seconds; of others one line tells how many there were. 0 is any number")
	f.StringVar(&s.tcpInfo, "log-tcp-info", "errors", "of which connections a record has the kernel's TCP_INFO (round trip, retransmissions, state) of both sides: errors, all or off")
	f.IntVar(&s.ring, "ring-size", observe.DefaultRingSize, "`number` of the newest records that are kept in memory to be asked for; about 1 kB each, half of it garbage that waits to be collected")
	f.IntVar(&s.maxSeries, "metrics-max-series", 20000, "`number` of time series of Service ports, about: ports that come into use beyond it are counted together, as those of the namespace and Service _other. 0 is any number")
	f.StringVar(&s.healthz, "healthz-bind-address", "", "`address:port` of /healthz and /livez; empty serves none (default: 0.0.0.0:10256; with --service-proxy-name 0.0.0.0:10356, as kube-proxy has the other; [::] if --node-ip is an IPv6 address)")
	f.StringVar(&s.metrics, "metrics-bind-address", "", "`address:port` of /metrics, /proxyMode and /configz; empty serves none (default: 127.0.0.1:10249; with --service-proxy-name 127.0.0.1:10349; [::1] if --node-ip is an IPv6 address)")
	f.BoolVar(&s.hardFail, "bind-address-hard-fail", false, "end if one of these two, or the admin socket, cannot be listened on, instead of trying again")
	f.BoolVar(&s.profiling, "profiling", false, "serve /debug/pprof with the metrics")
}

// complete finds the addresses that nobody gave, and adds the port to those that
// were given without, as kube-proxy does.
func (s *seenOptions) complete(o *options) error {
	anywhere, loopback := netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if o.node.ipv6() {
		anywhere, loopback = netip.IPv6Unspecified(), netip.IPv6Loopback()
	}
	for _, a := range []struct {
		flag, value string
		standard    netip.AddrPort
	}{
		{"healthz-bind-address", s.healthz, netip.AddrPortFrom(anywhere, 10256)},
		{"metrics-bind-address", s.metrics, netip.AddrPortFrom(loopback, 10249)},
	} {
		port := a.standard.Port()
		if o.source.serviceProxyName != "" {
			port += 100
		}
		value := a.value
		if addr, ok := proxier.ParseAddr(value); ok {
			value = netip.AddrPortFrom(addr, port).String()
		}
		if !o.given(a.flag) {
			value = netip.AddrPortFrom(a.standard.Addr(), port).String()
		}
		if err := o.flags.Lookup(a.flag).Value.Set(value); err != nil {
			return err
		}
	}
	return nil
}

func (s *seenOptions) configure(o *options, cfg *proxier.Config) error {
	var errs []error
	if _, err := logrus.ParseLevel(s.logLevel); err != nil {
		errs = append(errs, o.fault("log-level", s.logLevel, "want error, warning, info, debug or trace"))
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		errs = append(errs, o.fault("log-format", s.logFormat, "want text or json"))
	}
	errs = append(errs, s.configureRecords(o, cfg))
	for _, a := range []struct{ flag, addr string }{{"healthz-bind-address", s.healthz}, {"metrics-bind-address", s.metrics}} {
		if err := checkBindAddress(a.addr); err != nil {
			errs = append(errs, o.fault(a.flag, a.addr, "%w", err))
		}
	}
	cfg.HealthzAddress, cfg.MetricsAddress = s.healthz, s.metrics
	cfg.BindHardFail, cfg.Profiling = s.hardFail, s.profiling
	return errors.Join(errs...)
}

// configureRecords is about the log of connections.
func (s *seenOptions) configureRecords(o *options, cfg *proxier.Config) error {
	var errs []error
	for _, n := range []struct {
		flag               string
		value, least, most int
	}{
		{"log-file-max-size", s.logFileSize, 0, 1 << 20},
		{"log-file-max-files", s.logFiles, 0, 1000},
		{"log-max-errors", s.maxErrors, 0, 1_000_000_000},
		{"ring-size", s.ring, 1, 1 << 20},
		{"metrics-max-series", s.maxSeries, 0, 1_000_000_000},
	} {
		if n.value < n.least || n.value > n.most {
			errs = append(errs, o.fault(n.flag, strconv.Itoa(n.value), "want %d to %d", n.least, n.most))
		}
	}
	var ok bool
	if cfg.Service.Relay.TCPInfo, ok = observe.ParseTCPInfoOf(s.tcpInfo); !ok {
		errs = append(errs, o.fault("log-tcp-info", s.tcpInfo, "want errors, all or off"))
	}
	cfg.LogErrors = s.maxErrors
	cfg.RingSize, cfg.MaxSeries = s.ring, s.maxSeries
	errs = append(errs, o.asAnnotated(cfg, said{"log-connections", "log", s.logConnections}))
	return errors.Join(errs...)
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

// verbosity is the log level as klog's number.
type verbosity string

func (v *verbosity) Set(text string) error {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return errors.New("want a number")
	case n <= 3:
		*v = "info"
	case n <= 5:
		*v = "debug"
	default:
		*v = "trace"
	}
	return nil
}

func (v *verbosity) String() string { return string(*v) }
func (v *verbosity) Type() string   { return "number" }
