package observe

import (
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
)

// Sampling says which records a Log leaves out. The zero Sampling leaves out none.
// Metrics and a Ring always have all.
type Sampling struct {
	// OK is of how many records of connections and sessions that went well one is
	// written; 0 and 1: each. One went well without Trouble and without a failed attempt.
	OK int
	// Errors is how many records of one reason of one Service port are written within ten
	// seconds, if they are Trouble; 0: any number. The others are one line at the end of
	// that time, which tells how many there were.
	Errors int
}

// errorWindow is the time in which Sampling.Errors counts.
const errorWindow = 10 * time.Second

// fine says whether nothing of the record is worth telling.
func (r *Record) fine() bool {
	for i := range r.Attempts {
		if r.Attempts[i].failed() {
			return false
		}
	}
	return !r.Trouble()
}

// storms counts the records of each trouble in an errorWindow. It belongs to the
// goroutine of a Log.
type storms struct {
	limit int // 0: none
	began time.Time
	seen  map[trouble]int
	// others are of troubles of which there are too many to tell them apart.
	others int
}

// trouble is what is told only so many times.
type trouble struct {
	ServicePort
	Reason
}

// troubles bounds what is told apart in a window.
const troubles = 4096

// allow says whether a record is to be written. opened says that a window begins with it.
func (s *storms) allow(r *Record) (allowed, opened bool) {
	if s.limit <= 0 || !r.Trouble() {
		return true, false
	}
	if s.began.IsZero() {
		s.began, opened = time.Now(), true
		s.seen = map[trouble]int{}
	}
	of := trouble{*r.ServicePort, r.Reason}
	n, known := s.seen[of]
	if !known && len(s.seen) >= troubles {
		s.others++
		return false, opened
	}
	s.seen[of] = n + 1
	return n < s.limit, opened
}

// end ends the window, and tells of what was left out in it.
func (s *storms) end(logger *logrus.Logger) {
	if s.began.IsZero() {
		return
	}
	took := max(time.Since(s.began).Round(time.Second), time.Second)
	for of, n := range s.seen {
		if n -= s.limit; n > 0 {
			of.tell(logger, n, took)
		}
	}
	if s.others > 0 {
		logger.WithFields(logrus.Fields{"event": "log.omitted", "omitted": s.others}).
			Warnf("%d more records of other Service ports and reasons in the last %s", s.others, took)
	}
	*s = storms{limit: s.limit}
}

func (t trouble) tell(logger *logrus.Logger, n int, took time.Duration) {
	name := t.Namespace + "/" + t.Service
	if t.PortName != "" {
		name += ":" + t.PortName
	}
	logger.WithFields(logrus.Fields{
		"event": "log.omitted", "omitted": n, "ns": t.Namespace, "service": t.Service, "port_name": t.PortName,
		"proto": t.Protocol, "reason": string(t.Reason),
	}).Warn(fmt.Sprintf("%s: %d more like this in the last %s: %s", name, n, took, t.Reason.Text()))
}
