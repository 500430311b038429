package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/udp"
)

// udpOptions bound the sessions of UDP clients.
type udpOptions struct {
	idle, stream    time.Duration
	all, perService int
}

func (u *udpOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&u.idle, "udp-idle-timeout", 30*time.Second, "for the first reply of an endpoint; without one the session ends")
	f.DurationVar(&u.stream, "udp-stream-timeout", 120*time.Second, "for the next datagram once the endpoint has replied")
	f.IntVar(&u.perService, "udp-max-sessions-per-service", 4096, "sessions that one port of a Service may have; one client network (/24 or /64) may have half of them")
	f.IntVar(&u.all, "udp-max-sessions", 0, "sessions in all; 0 is half of the files that usher may open, and at most half of the node's local ports")
}

func (u *udpOptions) configure(o *options, cfg *proxier.Config) error {
	cfg.Service.UDP = udp.Limits{Sessions: u.perService, Idle: u.idle, Stream: u.stream}
	cfg.MaxUDPSessions = u.all
	var errs []error
	if u.perService < 1 || u.perService > 1_000_000 {
		errs = append(errs, o.fault("udp-max-sessions-per-service", fmt.Sprint(u.perService), "want 1 to 1000000"))
	}
	if u.all < 0 || u.all > 1_000_000 {
		errs = append(errs, o.fault("udp-max-sessions", fmt.Sprint(u.all), "want 0 to 1000000"))
	}
	return errors.Join(errors.Join(errs...), o.between(
		bounds{"udp-idle-timeout", u.idle, time.Second, time.Hour},
		bounds{"udp-stream-timeout", u.stream, time.Second, 24 * time.Hour},
	))
}
