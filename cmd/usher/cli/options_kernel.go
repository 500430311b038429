package cli

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/tune"
)

// kernelOptions say what the kernel is asked for at start.
type kernelOptions struct {
	oomScoreAdj int
	conntrack   tune.Conntrack
}

func (k *kernelOptions) define(f *pflag.FlagSet) {
	c := &k.conntrack
	f.IntVar(&k.oomScoreAdj, "oom-score-adj", -999, "how readily usher is killed when memory runs out, `-1000 to 1000`")
	f.IntVar(&c.MaxPerCore, "conntrack-max-per-core", 0, "connections to track, `number` for each CPU; 0 leaves the kernel's limit. "+
		"usher needs none of these settings, but the node's other NAT may rely on what kube-proxy sets: 32768")
	f.IntVar(&c.Min, "conntrack-min", 128<<10, "at least this `number`, if --conntrack-max-per-core is not 0")
	f.DurationVar(&c.TCPEstablished, "conntrack-tcp-timeout-established", 0, "idle timeout of tracked TCP connections; 0 leaves the kernel's (kube-proxy: 24h)")
	f.DurationVar(&c.TCPCloseWait, "conntrack-tcp-timeout-close-wait", 0, "the same in state CLOSE_WAIT; 0 leaves the kernel's (kube-proxy: 1h)")
	f.BoolVar(&c.TCPBeLiberal, "conntrack-tcp-be-liberal", false, "track TCP packets with unexpected sequence numbers too; false leaves the kernel's setting")
	f.DurationVar(&c.UDP, "conntrack-udp-timeout", 0, "idle timeout of UDP without an answer; 0 leaves the kernel's")
	f.DurationVar(&c.UDPStream, "conntrack-udp-timeout-stream", 0, "idle timeout of UDP with answers; 0 leaves the kernel's")
}

func (k *kernelOptions) configure(o *options, _ *proxier.Config) error {
	var errs []error
	if k.oomScoreAdj < -1000 || k.oomScoreAdj > 1000 {
		errs = append(errs, o.fault("oom-score-adj", fmt.Sprint(k.oomScoreAdj), "want -1000 to 1000"))
	}
	c := &k.conntrack
	for _, n := range []struct {
		flag  string
		value int
	}{{"conntrack-max-per-core", c.MaxPerCore}, {"conntrack-min", c.Min}} {
		if n.value < 0 || n.value > math.MaxInt32 {
			errs = append(errs, o.fault(n.flag, fmt.Sprint(n.value), "want 0 to %d", math.MaxInt32))
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"conntrack-tcp-timeout-established", c.TCPEstablished},
		{"conntrack-tcp-timeout-close-wait", c.TCPCloseWait},
		{"conntrack-udp-timeout", c.UDP},
		{"conntrack-udp-timeout-stream", c.UDPStream},
	} {
		if d.value < 0 || d.value%time.Second != 0 || d.value > math.MaxInt32*time.Second {
			errs = append(errs, o.fault(d.flag, d.value.String(), "want whole seconds, or 0 to leave the kernel's value"))
		}
	}
	return errors.Join(errs...)
}

// apply asks the kernel.
func (k *kernelOptions) apply(log logrus.FieldLogger) {
	tune.OOMScore(k.oomScoreAdj, log)
	k.conntrack.Apply(log)
}
