package observe

import (
	"net/netip"
	"strconv"
)

// Sentence tells the record in one plain sentence.
func (r *Record) Sentence() string {
	var room [256]byte
	return string(r.appendSentence(room[:0]))
}

func (r *Record) appendSentence(s []byte) []byte {
	s = append(s, r.Namespace...)
	s = append(s, '/')
	s = append(s, r.Service...)
	if r.PortName != "" {
		s = append(s, ':')
		s = append(s, r.PortName...)
	}
	if r.hasBackend() {
		s = append(s, r.verb()...)
		s = appendName(s, r.Backend().Pod, r.Backend().Addr)
	}
	if r.Protocol == udp && r.Ending != nil {
		s = r.appendDatagrams(s)
	}
	if r.hasBackend() {
		s = r.appendFailures(s)
	}
	s = append(s, ": "...)
	return r.appendEnd(s)
}

// verb is what the Service was by the endpoint. A UDP endpoint that has never
// answered cannot be said to have served: many addresses take datagrams.
func (r *Record) verb() string {
	if r.Protocol == udp && !r.answered() {
		return " passed to "
	}
	return " served by "
}

// appendDatagrams counts those of a session.
func (r *Record) appendDatagrams(s []byte) []byte {
	s = append(s, " ("...)
	s = appendCount(s, r.DatagramsIn, "datagram")
	s = append(s, " in, "...)
	if r.answered() {
		s = strconv.AppendInt(s, r.DatagramsOut, 10)
		s = append(s, " out"...)
	} else {
		s = append(s, "never answered"...)
	}
	if r.Dropped > 0 {
		s = append(s, ", "...)
		s = strconv.AppendInt(s, r.Dropped, 10)
		s = append(s, " dropped"...)
	}
	return append(s, ')')
}

// appendFailures tells the attempts before the one that succeeded.
func (r *Record) appendFailures(s []byte) []byte {
	n := r.count((*Attempt).failed)
	if n == 0 {
		return s
	}
	s = append(s, " after "...)
	s = appendCount(s, int64(n), "failed attempt")
	s = append(s, " on "...)
	return r.appendAttempts(s, n, (*Attempt).failed)
}

func (r *Record) count(those func(*Attempt) bool) (n int) {
	for i := range r.Attempts {
		if those(&r.Attempts[i]) {
			n++
		}
	}
	return n
}

// attemptsTold is how many attempts a sentence has: the line has them all.
const attemptsTold = 3

// appendAttempts tells what the endpoints of those n attempts have said.
func (r *Record) appendAttempts(s []byte, n int, those func(*Attempt) bool) []byte {
	told := 0
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if !those(a) {
			continue
		}
		if told == attemptsTold {
			s = append(s, " and "...)
			s = strconv.AppendInt(s, int64(n-told), 10)
			return append(s, " more"...)
		}
		if told++; told > 1 {
			s = append(s, ", "...)
		}
		s = appendName(s, a.Pod, a.Backend)
		s = append(s, " ("...)
		s = append(a.appendAnswer(s), ')')
	}
	return s
}

// failed says whether the attempt speaks against its endpoint, or against usher.
func (a *Attempt) failed() bool {
	return a.Result != OK && a.Result != Superseded && a.Result != Abandoned
}

// matters is failed, or that it was given up.
func (a *Attempt) matters() bool { return a.failed() || a.Result == Abandoned }

// appendAnswer tells what the endpoint has said: the kernel's name of the error, or for how
// long it was silent.
func (a *Attempt) appendAnswer(s []byte) []byte {
	switch {
	case a.Result == BackendResetEarly && a.Errno == "":
		return append(s, "closed without an answer"...)
	case a.Result == BackendResetEarly:
		s = append(s, a.Errno...)
		return append(s, " without an answer"...)
	case a.Errno != "":
		return append(s, a.Errno...)
	case a.Result == ConnectTimeout, a.Result == Abandoned:
		return appendDuration(append(s, "no answer in "...), a.Duration)
	}
	return append(s, string(a.Result)...)
}

func appendCount(s []byte, n int64, what string) []byte {
	s = strconv.AppendInt(s, n, 10)
	s = append(s, ' ')
	s = append(s, what...)
	if n != 1 {
		s = append(s, 's')
	}
	return s
}

func appendName(s []byte, pod string, addr netip.AddrPort) []byte {
	if pod != "" {
		return append(s, pod...)
	}
	return appendAddrPort(s, addr)
}
