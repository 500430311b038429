package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Sentence tells the record in one plain sentence.
func (r *Record) Sentence() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s/%s", r.Namespace, r.Service)
	if r.PortName != "" {
		fmt.Fprintf(&s, ":%s", r.PortName)
	}
	if r.Backend.Addr.IsValid() {
		fmt.Fprintf(&s, " %s %s", r.verb(), name(r.Backend.Pod, r.Backend.Addr))
	}
	if r.Protocol == udp {
		fmt.Fprintf(&s, " (%s)", r.datagrams())
	}
	if r.Backend.Addr.IsValid() {
		s.WriteString(r.failures())
	}
	fmt.Fprintf(&s, ": %s", r.Reason.Text())
	return s.String()
}

// verb is what the Service was by the endpoint. A UDP endpoint that has never
// answered cannot be said to have served: many addresses take datagrams.
func (r *Record) verb() string {
	if r.Protocol == udp && !r.answered() {
		return "passed to"
	}
	return "served by"
}

// datagrams counts those of a session.
func (r *Record) datagrams() string {
	words := plural(r.DatagramsIn, "datagram") + " in, "
	if r.answered() {
		words += fmt.Sprintf("%d out", r.DatagramsOut)
	} else {
		words += "never answered"
	}
	if r.Dropped > 0 {
		words += fmt.Sprintf(", %d dropped", r.Dropped)
	}
	return words
}

// failures tells the attempts before the one that succeeded.
func (r *Record) failures() string {
	failed := slices.DeleteFunc(slices.Clone(r.Attempts), func(a Attempt) bool { return !a.failed() })
	if len(failed) == 0 {
		return ""
	}
	first := failed[0]
	words := fmt.Sprintf(" after %s on %s (%s)", plural(int64(len(failed)), "failed attempt"), name(first.Pod, first.Backend), first.why())
	if len(failed) > 1 {
		words += " and others"
	}
	return words
}

// failed says whether the attempt speaks against its endpoint, or against usher.
func (a Attempt) failed() bool {
	return a.Result != OK && a.Result != Superseded && a.Result != Abandoned
}

// why is the kernel's name of the error, or what usher calls it.
func (a Attempt) why() string {
	if a.Errno != "" {
		return a.Errno
	}
	return string(a.Result)
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func name(pod string, addr netip.AddrPort) string {
	if pod != "" {
		return pod
	}
	return addr.String()
}
