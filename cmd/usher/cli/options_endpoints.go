package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/annotation"
)

// endpointOptions say which endpoint a connection gets, and what if that fails.
type endpointOptions struct {
	own           Policies
	balancer      string
	slowStart     string
	passiveHealth string

	retries     int
	retryOn     []string
	connect     time.Duration
	total       time.Duration
	retryBudget string
	hedge       string
}

func (e *endpointOptions) define(f *pflag.FlagSet) {
	f.StringVar(&e.balancer, "balancer", "round-robin", "policy that picks endpoints: "+strings.Join(e.own.names(), ", "))
	f.StringVar(&e.slowStart, "slow-start", "off", "`duration` that a new endpoint takes to its full share, 1s to 1h, or off")
	f.StringVar(&e.passiveHealth, "passive-health", "on", "when an endpoint is left out that cannot be connected to: on, off, or a `list` of "+
		"what is to differ from consecutive-failures=5,base=10s,max=5m,max-ejected=50%")
	f.IntVar(&e.retries, "retries", 3, "further endpoints to try when a connect fails, `0 to 8`")
	f.StringSliceVar(&e.retryOn, "retry-on", []string{"refused", "unreachable", "timeout"}, "failures after which another endpoint is tried, a `list` of these "+
		"and reset-early, which sends what the client has said to a second endpoint")
	f.DurationVar(&e.connect, "connect-timeout", 2*time.Second, "for one attempt to connect to an endpoint")
	f.DurationVar(&e.total, "total-connect-timeout", 10*time.Second, "for all attempts of one connection")
	f.StringVar(&e.retryBudget, "retry-budget", "100%,10/s", "attempts after the first that there may be at one port of a Service: a share of its connections, and so many a second besides")
	f.StringVar(&e.hedge, "hedge", "off", "`duration` of an attempt after which another one begins beside it, 5ms to 10s, or off")
}

func (e *endpointOptions) configure(o *options, cfg *proxier.Config) error {
	cfg.Service = annotation.Defaults()
	cfg.Policies = e.own
	var unknown error
	if !slices.Contains(e.own.names(), e.balancer) {
		unknown = o.fault("balancer", e.balancer, "want one of %s", strings.Join(e.own.names(), ", "))
	}
	cfg.Service.Balancer = e.balancer
	err := o.asAnnotated(cfg,
		said{"slow-start", "slow-start", e.slowStart},
		said{"passive-health", "passive-health", e.passiveHealth},
		said{"retries", "retries", fmt.Sprint(e.retries)},
		said{"retry-on", "retry-on", strings.Join(e.retryOn, ",")},
		said{"retry-budget", "retry-budget", e.retryBudget},
		said{"hedge", "hedge", e.hedge},
	)
	cfg.Service.Retry.Timeout, cfg.Service.Retry.Total = e.connect, e.total
	return errors.Join(unknown, err, e.timeouts(o))
}

func (e *endpointOptions) timeouts(o *options) error {
	err := o.between(bounds{"connect-timeout", e.connect, 50 * time.Millisecond, time.Minute})
	if err == nil && e.connect > e.total && !o.given("total-connect-timeout") {
		return o.fault("connect-timeout", e.connect.String(), "want at most total-connect-timeout, which is %s", e.total)
	}
	return errors.Join(err, o.between(bounds{"total-connect-timeout", e.total, e.connect, 10 * time.Minute}))
}

// said is the value of a flag that says for all Services what an annotation says
// for one.
type said struct{ flag, annotation, value string }

// asAnnotated takes values of flags in the words and bounds of annotations.
func (o *options) asAnnotated(cfg *proxier.Config, all ...said) error {
	var errs []error
	for _, s := range all {
		if err := cfg.Service.Set(s.annotation, s.value, nil); err != nil {
			errs = append(errs, o.fault(s.flag, s.value, "%w", err))
		}
	}
	return errors.Join(errs...)
}

// bounds are those of a duration.
type bounds struct {
	flag     string
	value    time.Duration
	min, max time.Duration
}

// between returns an error about every duration that is out of bounds, but for bounds
// that another fault has made impossible.
func (s *settings) between(all ...bounds) (err error) {
	for _, b := range all {
		if b.min <= b.max && (b.value < b.min || b.value > b.max) {
			err = errors.Join(err, s.fault(b.flag, b.value.String(), "want %s to %s", b.min, b.max))
		}
	}
	return err
}
