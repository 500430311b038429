package instant

import (
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a time of this machine since it was booted: nanoseconds of CLOCK_MONOTONIC
// (clock_gettime(2)), 0 for none. It means the same to all processes.
type Instant int64

// Of is the Instant of a time with a monotonic clock reading. The zero time has none.
func Of(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return monotonic() - Instant(time.Since(t))
}

// Time is the time, with a monotonic clock reading.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(i - monotonic()))
}

func monotonic() Instant {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // which cannot fail
	return Instant(t.Nano())
}
