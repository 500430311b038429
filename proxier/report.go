package proxier

import (
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier/source"
)

// reporter tells problems once: when they appear, and when they are gone.
// It belongs to the reconcile loop.
type reporter struct {
	log   logrus.FieldLogger
	event func(about source.Ref, reason, message string)
	known map[Problem]bool
}

// report is given all problems of a pass.
func (r *reporter) report(problems []Problem) {
	now := make(map[Problem]bool, len(problems))
	for _, p := range problems {
		now[p] = true
		if r.known[p] {
			continue
		}
		r.entry(p).Warn(p.Message)
		r.event(p.About, p.Reason, p.Message)
	}
	for p := range r.known {
		if !now[p] {
			r.entry(p).Info("no longer: " + p.Message)
		}
	}
	r.known = now
}

func (r *reporter) entry(p Problem) *logrus.Entry {
	return r.log.WithFields(logrus.Fields{"about": p.About.String(), "problem": p.Reason})
}
