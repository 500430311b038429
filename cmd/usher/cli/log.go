package cli

import (
	"fmt"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier/observe"
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
		log.SetFormatter(observe.NewTextFormatter())
	case "json":
		log.SetFormatter(observe.NewJSONFormatter())
	default:
		return nil, usageError{fmt.Errorf("--log-format=%s: want text or json", format)}
	}
	return log, nil
}
