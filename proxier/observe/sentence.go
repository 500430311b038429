package observe

import (
	"net/netip"
	"strconv"
)

// Sentence tells the record in one plain sentence.
func (r *Record) Sentence() string {
	var room [256]byte
	s := append(room[:0], r.Namespace...)
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
	if r.Protocol == udp {
		s = r.appendDatagrams(s)
	}
	if r.hasBackend() {
		s = r.appendFailures(s)
	}
	s = append(s, ": "...)
	s = append(s, r.Reason.Text()...)
	return string(s)
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
	var first *Attempt
	n := int64(0)
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if !a.failed() {
			continue
		}
		if n++; n == 1 {
			first = a
		}
	}
	if n == 0 {
		return s
	}
	s = append(s, " after "...)
	s = appendCount(s, n, "failed attempt")
	s = append(s, " on "...)
	s = appendName(s, first.Pod, first.Backend)
	s = append(s, " ("...)
	s = append(s, first.why()...)
	s = append(s, ')')
	if n > 1 {
		s = append(s, " and others"...)
	}
	return s
}

// failed says whether the attempt speaks against its endpoint, or against usher.
func (a *Attempt) failed() bool {
	return a.Result != OK && a.Result != Superseded && a.Result != Abandoned
}

// why is the kernel's name of the error, or what usher calls it.
func (a *Attempt) why() string {
	if a.Errno != "" {
		return a.Errno
	}
	return string(a.Result)
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
