package observe

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// Share says which records of a Service port a Log writes: All, Errors, None, or N > 1 for
// the Errors and one of N others. Metrics and a Ring always have all.
type Share int32

// The shares that are no number.
const (
	All    Share = 0
	Errors Share = -1 // those with Trouble or a failed attempt
	None   Share = -2
)

// sampler leaves out records of one Service port. It is safe for concurrent use.
type sampler struct {
	share atomic.Int32
	fine  atomic.Uint32 // records that went well, while only some of them are written
}

func (s *sampler) wants(r *Record) bool {
	switch share := Share(s.share.Load()); {
	case share == All:
		return true
	case share == None:
		return false
	case !r.fine():
		return true
	default:
		return share > 0 && (s.fine.Add(1)-1)%uint32(share) == 0
	}
}

// SetShare says which of its records are logged.
func (p *PortMetrics) SetShare(s Share) { p.sampler.share.Store(int32(s)) }

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
