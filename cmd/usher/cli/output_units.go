package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

// age is how long ago something was, as kubectl says it.
func age(since time.Time) string {
	if since.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(since))
}

// seconds is a duration, as kubectl says it.
func seconds(s float64) string {
	return duration.HumanDuration(time.Duration(s * float64(time.Second)))
}

// quantity is a number of something in at most six characters and the unit.
func quantity(n float64, unit string) string {
	switch {
	case n < 1000 && n == float64(int64(n)):
		return strconv.FormatInt(int64(n), 10) + unit
	case n < 1000:
		return strconv.FormatFloat(n, 'f', 1, 64) + unit
	}
	for _, prefix := range "kMGTPE" {
		if n /= 1000; n < 999.95 {
			return strconv.FormatFloat(n, 'f', 1, 64) + string(prefix) + unit
		}
	}
	return fmt.Sprintf("%g%s", n*1e18, unit)
}

// byteCount is a number of bytes.
func byteCount[N int64 | uint64](n N) string { return quantity(float64(n), "B") }

// milliseconds is a time that the record has, where -1 is never.
func milliseconds(ms float64) string {
	switch {
	case ms < 0:
		return "never"
	case ms < 1000:
		return strconv.FormatFloat(math.Round(ms*1000)/1000, 'f', -1, 64) + "ms" // to the microsecond, as it is measured
	}
	return (time.Duration(ms) * time.Millisecond).String()
}
