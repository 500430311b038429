package annotation

import (
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/udp"
)

// Settings are what a Service may ask for by annotations. What it does not ask for
// is as the flags say.
type Settings struct {
	Balancer  string
	Weights   Weights
	SlowStart time.Duration // how long a new endpoint takes to its full share; 0: no time
	Retry     dial.Retry
	Relay     relay.Limits // of TCP connections
	Limits    limit.Limits
	Outlier   outlier.Settings
	Drain     Drain
	UDP       udp.Limits
	// ProxyProtocol is the version of the PROXY protocol header that TCP endpoints
	// get; 0: none.
	ProxyProtocol byte
	Log           observe.Share // of its records
}

// Drain says what becomes of the connections to an endpoint that leaves.
type Drain struct {
	// Timeout is how long they may go on; negative: for as long as they like, as
	// Kubernetes promises.
	Timeout time.Duration
	// Unready is what becomes of those to an endpoint that stays but is not ready.
	Unready Unready
}

// Unready is what an endpoint that is not ready means for its connections.
type Unready string

// The choices.
const (
	UnreadyKeep  Unready = "keep"  // nothing
	UnreadyDrain Unready = "drain" // as if it had left
	UnreadyReset Unready = "reset" // they end at once
)

// Defaults are the settings of a Service when neither flags nor annotations say
// anything.
func Defaults() Settings {
	return Settings{
		Balancer: balancer.Names()[0],
		Retry: dial.Retry{
			Attempts: 4, Timeout: 2 * time.Second, Total: 10 * time.Second, On: dial.Connect,
			Budget: dial.Budget{Share: 1, PerSecond: 10},
		},
		Relay: relay.Limits{HalfClose: time.Hour, Peer: tcp.Liveness{KeepAlive: keepAlive()}},
		Outlier: outlier.Settings{
			Passive: passive(),
			Check:   outlier.Check{Interval: 10 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3},
		},
		Drain: Drain{Timeout: -1, Unready: UnreadyKeep},
		UDP:   udp.Limits{Sessions: 4096, Idle: 30 * time.Second, Stream: 2 * time.Minute},
	}
}

func passive() outlier.Passive {
	return outlier.Passive{Failures: 5, Base: 10 * time.Second, Max: 5 * time.Minute, MaxEjected: 0.5}
}

// keepAlive finds a peer that is gone within 90 seconds. It asks less often than what
// forgets quiet connections on the way, which takes minutes.
func keepAlive() tcp.KeepAlive {
	return tcp.KeepAlive{Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4}
}

// Asked says whether connections may have to end because of their endpoint.
func (d Drain) Asked() bool { return d.Timeout >= 0 || d.Unready == UnreadyReset }
