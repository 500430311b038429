package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier"
)

// endpointOptions say which endpoint a connection gets, and what if that fails.
type endpointOptions struct {
	balancer  string
	retries   int
	connect   time.Duration
	total     time.Duration
	halfClose time.Duration
}

func (e *endpointOptions) define(f *pflag.FlagSet) {
	f.StringVar(&e.balancer, "balancer", "round-robin", "policy that picks endpoints: "+strings.Join(balancer.Names(), ", "))
	f.IntVar(&e.retries, "retries", 3, "further endpoints to try when a connect fails, `0 to 8`")
	f.DurationVar(&e.connect, "connect-timeout", 2*time.Second, "for one attempt to connect to an endpoint")
	f.DurationVar(&e.total, "total-connect-timeout", 10*time.Second, "for all attempts of one connection")
	f.DurationVar(&e.halfClose, "half-close-timeout", time.Hour, "how long one side may be silent after the other one has closed")
}

func (e *endpointOptions) configure(o *options, cfg *proxier.Config) error {
	if _, err := balancer.New(e.balancer); err != nil {
		return fmt.Errorf("%s: %w", o.label("balancer"), err)
	}
	if e.retries < 0 || e.retries > 8 {
		return o.fault("retries", fmt.Sprint(e.retries), "want 0 to 8")
	}
	cfg.Balancer = e.balancer
	cfg.Retry = proxier.Retry{Attempts: e.retries + 1, Timeout: e.connect, Total: e.total}
	cfg.HalfCloseTimeout = e.halfClose
	return o.between(
		bounds{"connect-timeout", e.connect, 50 * time.Millisecond, time.Minute},
		bounds{"total-connect-timeout", e.total, e.connect, 10 * time.Minute},
		bounds{"half-close-timeout", e.halfClose, time.Second, 24 * time.Hour},
	)
}

// bounds are those of a duration.
type bounds struct {
	flag     string
	value    time.Duration
	min, max time.Duration
}

// between returns an error about the first duration that is out of bounds.
func (s *settings) between(all ...bounds) error {
	for _, b := range all {
		if b.value < b.min || b.value > b.max {
			return s.fault(b.flag, b.value.String(), "want %s to %s", b.min, b.max)
		}
	}
	return nil
}
