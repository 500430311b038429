package observe

import (
	"strconv"
	"time"
)

// appendEnd tells who has ended it, how and when.
func (r *Record) appendEnd(s []byte) []byte {
	switch {
	case r.Ending == nil && r.hasBackend():
		return append(s, "it goes on"...)
	case r.Ending == nil:
		return append(s, "it has no endpoint yet"...)
	case r.Protocol == udp:
		return append(s, r.Reason.Text()...)
	case !r.hasBackend():
		return r.appendRefusal(s)
	}
	switch r.Reason {
	case OK:
		return r.appendGoodEnd(s)
	case HalfCloseTimeout:
		return r.appendUnsent(r.appendHalfClosed(s))
	default:
		s = append(s, r.Reason.Text()...)
	}
	s = r.appendErrno(s)
	s = r.appendWhen(s)
	s = r.appendPassed(s)
	s = r.appendOtherFIN(s)
	return r.appendUnsent(s)
}

// appendRefusal tells what has become of a client that has had no endpoint.
func (r *Record) appendRefusal(s []byte) []byte {
	s = append(s, r.Reason.Text()...)
	if r.ClientCloseAt >= 0 {
		s = appendDuration(append(s, " after "...), r.ClientCloseAt)
	}
	if r.Waited > 0 {
		s = appendDuration(append(s, ", having waited for its turn for "...), r.Waited)
	}
	if n := r.count((*Attempt).matters); n > 0 {
		return r.appendAttempts(append(s, ": "...), n, (*Attempt).matters)
	}
	return s
}

// appendGoodEnd tells who was the first to close.
func (r *Record) appendGoodEnd(s []byte) []byte {
	s = append(s, r.Reason.Text()...)
	s = appendDuration(append(s, " after "...), r.Duration)
	switch {
	case r.ClientCloseAt < 0 || r.BackendCloseAt < 0:
		return s
	case r.BackendCloseAt < r.ClientCloseAt:
		return append(s, ", the endpoint first"...)
	}
	return append(s, ", the client first"...)
}

func (r *Record) appendHalfClosed(s []byte) []byte {
	closed, silent, at := "the client", "the endpoint", r.ClientCloseAt
	if r.ClientClose != CloseFIN {
		closed, silent, at = silent, closed, r.BackendCloseAt
	}
	s = append(s, closed...)
	s = appendDuration(append(s, " had closed its side after "...), at)
	s = append(s, " and "...)
	s = append(s, silent...)
	return appendDuration(append(s, " was silent for too long, until "...), r.Duration)
}

func (r *Record) appendErrno(s []byte) []byte {
	if r.Errno == "" {
		return s
	}
	s = append(s, " ("...)
	s = append(s, r.Errno...)
	return append(s, ')')
}

// appendWhen counts from when the endpoint was connected to where that is who has ended it.
func (r *Record) appendWhen(s []byte) []byte {
	if n := len(r.Attempts); r.Reason.Side() == SideBackend && r.BackendCloseAt >= 0 && n > 0 {
		last := &r.Attempts[n-1]
		s = appendDuration(append(s, ' '), r.BackendCloseAt-last.Start-last.Duration)
		return append(s, " after it was connected to"...)
	}
	if side := r.Reason.Side(); side != SideClient && side != SideBackend {
		return appendDuration(append(s, "; it had lasted "...), r.Duration)
	}
	return appendDuration(append(s, " after "...), r.Duration)
}

// appendPassed tells what a side has had, or given, that has gone.
func (r *Record) appendPassed(s []byte) []byte {
	switch r.Reason.Side() {
	case SideBackend:
		if !r.answered() {
			return append(s, ", nothing had come from it"...)
		}
		s = appendCount(append(s, ", with "...), r.BytesOut, "byte")
		return append(s, " passed on from it"...)
	case SideClient:
		s = appendCount(append(s, ", with "...), r.BytesOut, "byte")
		return append(s, " passed on to it"...)
	}
	return s
}

// appendOtherFIN tells whether the other side had closed before.
func (r *Record) appendOtherFIN(s []byte) []byte {
	switch side := r.Reason.Side(); {
	case side == SideClient && r.BackendClose == CloseFIN:
		return appendDuration(append(s, "; the endpoint had closed its side after "...), r.BackendCloseAt)
	case side == SideBackend && r.ClientClose == CloseFIN:
		return appendDuration(append(s, "; the client had closed its side after "...), r.ClientCloseAt)
	}
	return s
}

// appendUnsent tells what may not have arrived.
func (r *Record) appendUnsent(s []byte) []byte {
	if r.Sockets == nil {
		return s
	}
	s = appendUnsentTo(s, r.Sockets.UnsentClient, "the client")
	return appendUnsentTo(s, r.Sockets.UnsentBackend, "the endpoint")
}

func appendUnsentTo(s []byte, n int64, who string) []byte {
	if n <= 0 {
		return s
	}
	s = append(s, "; "...)
	s = append(s, who...)
	s = append(s, " has not acknowledged "...)
	return appendCount(s, n, "byte")
}

// appendDuration appends it as people read it: 0.3 ms, 12 ms, 1.2 s, 3m20s.
func appendDuration(s []byte, d time.Duration) []byte {
	switch d = max(d, 0); {
	case d < 10*time.Millisecond:
		return append(appendTenths(s, int64(d/(time.Millisecond/10))), " ms"...)
	case d < time.Second:
		return append(strconv.AppendInt(s, d.Milliseconds(), 10), " ms"...)
	case d < 100*time.Second:
		return append(appendTenths(s, int64(d/(time.Second/10))), " s"...)
	}
	return append(s, d.Truncate(time.Second).String()...)
}

func appendTenths(s []byte, n int64) []byte {
	s = append(strconv.AppendInt(s, n/10, 10), '.')
	return strconv.AppendInt(s, n%10, 10)
}
