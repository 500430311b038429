package cli

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// newLogger returns a logger of the given level (panic … trace) and format
// (text or json) that writes to out.
func newLogger(out io.Writer, level, format string) (*logrus.Logger, error) {
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, usageError{fmt.Errorf("--log-level=%s: want error, warning, info, debug or trace", level)}
	}
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(parsed)
	switch format {
	case "text":
		log.SetFormatter(&logrus.TextFormatter{
			FullTimestamp: true, TimestampFormat: "15:04:05.000", SortingFunc: sortFields,
		})
	case "json":
		log.SetFormatter(&logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyTime: "ts"},
		})
	default:
		return nil, usageError{fmt.Errorf("--log-format=%s: want text or json", format)}
	}
	return log, nil
}

// firstFields are what a reader of a text log looks for first.
var firstFields = []string{
	"time", "ts", "level", "msg", "reason", "service", "client_ip", "client_port", "vip", "vip_port",
	"backend_pod", "backend_ip", "backend_port", "attempts", "bytes_in", "bytes_out", "connect_ms", "duration_ms",
}

func sortFields(keys []string) {
	rank := func(key string) int {
		if i := slices.Index(firstFields, key); i >= 0 {
			return i
		}
		return len(firstFields)
	}
	slices.Sort(keys)
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
}
