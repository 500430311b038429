package dial

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// ResultOf names what one attempt, or a search without any, has ended with.
func ResultOf(err error) observe.Reason {
	if err == nil {
		return observe.OK
	}
	var ours setupError
	switch {
	case errors.Is(err, context.Canceled):
		return observe.Abandoned
	case errors.Is(err, balancer.ErrNoEndpoints):
		return observe.NoEndpoints
	case errors.Is(err, ErrEndpointsFull):
		return observe.LimitBackend
	case errors.Is(err, ErrNoAttemptLeft), errors.Is(err, ErrBudgetSpent):
		return observe.RetriesExhausted
	case errors.As(err, &ours):
		return observe.InternalError
	case isBlackhole(err):
		return observe.BackendUnreachable
	}
	reason := observe.ReasonOf(err)
	var timeout interface{ Timeout() bool }
	if reason == observe.InternalError && errors.As(err, &timeout) && timeout.Timeout() {
		return observe.ConnectTimeout
	}
	return reason
}

// isBlackhole tells what a route of that kind makes of connect(2) (fib_props in
// net/ipv4/fib_semantics.c of the kernel). From another call EINVAL is a fault of our own.
func isBlackhole(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "connect" && call.Err == unix.EINVAL
}

// Outcome is the reason of a connection for which no endpoint was found: that of
// the error of Dial, or observe.RetriesExhausted if more than one endpoint was
// tried.
func Outcome(attempts []observe.Attempt, err error) observe.Reason {
	reason := ResultOf(err)
	if reason == observe.Abandoned {
		return observe.Shutdown // whoever has another cause to end a search knows it
	}
	tried := 0
	for _, a := range attempts {
		if !passes(a.Result) {
			tried++
		}
	}
	if tried > 1 && (blames(reason) || reason == observe.OutOfPorts) {
		return observe.RetriesExhausted
	}
	return reason
}

// passes tells a fault of this process that may be gone in a moment, and that
// another endpoint cannot mend.
func passes(r observe.Reason) bool { return r == observe.OutOfFiles || r == observe.OutOfMemory }

// blames tells a fault of the endpoint, or of the way to it.
func blames(r observe.Reason) bool {
	switch r {
	case observe.BackendRefused, observe.BackendResetEarly, observe.BackendUnreachable, observe.ConnectTimeout:
		return true
	}
	return false
}

// include says whether another endpoint may follow on a failure. Running out of
// local ports is one per endpoint: another one may always do.
func (f Failures) include(r observe.Reason) bool {
	switch r {
	case observe.BackendRefused:
		return f&Refused != 0
	case observe.BackendResetEarly: // nothing was sent yet, so that it is as good as refused
		return f&(Refused|ResetEarly) != 0
	case observe.BackendUnreachable:
		return f&Unreachable != 0
	case observe.ConnectTimeout:
		return f&Timeout != 0
	}
	return r == observe.OutOfPorts
}
