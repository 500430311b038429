package observe

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter says which records somebody wants to see. The zero Filter wants all; a record
// has to fit each field that is set.
type Filter struct {
	Namespace, Service string
	// Pod is NAMESPACE/NAME of an endpoint, or NAME in any namespace. A record fits if
	// that endpoint was connected to or tried.
	Pod string
	// Client has the client's address.
	Client netip.Prefix
	// Reasons are those of which the record has one.
	Reasons []Reason
	Side    Side
	// Errors wants those in which the client may have missed something: Record.Trouble.
	Errors bool
	// Since wants what has ended at that time or later.
	Since time.Time
}

// Wants says whether the record, which has ended, fits.
func (f *Filter) Wants(r *Record) bool {
	return (f.Namespace == "" || r.Namespace == f.Namespace) &&
		(f.Service == "" || r.Service == f.Service) &&
		(len(f.Reasons) == 0 || slices.Contains(f.Reasons, r.Reason)) &&
		(f.Side == "" || r.Reason.Side() == f.Side) &&
		(!f.Errors || r.Trouble()) &&
		(!f.Client.IsValid() || f.Client.Contains(r.Client.Addr().Unmap().WithZone(""))) &&
		(f.Since.IsZero() || !r.Start.Add(r.Duration).Before(f.Since)) &&
		(f.Pod == "" || f.wantsPodOf(r))
}

// WantsLive is Wants for what has not ended yet, and so has no reason and no end: those
// fields do not count. pods are those of the endpoints that are known so far.
func (f *Filter) WantsLive(of *ServicePort, client netip.Addr, pods ...string) bool {
	return (f.Namespace == "" || of.Namespace == f.Namespace) &&
		(f.Service == "" || of.Service == f.Service) &&
		(!f.Client.IsValid() || f.Client.Contains(client.Unmap().WithZone(""))) &&
		(f.Pod == "" || slices.ContainsFunc(pods, f.isPod))
}

func (f *Filter) wantsPodOf(r *Record) bool {
	return f.isPod(r.Backend().Pod) || slices.ContainsFunc(r.Attempts, func(a Attempt) bool { return f.isPod(a.Pod) })
}

func (f *Filter) isPod(pod string) bool {
	if pod == f.Pod {
		return true
	}
	_, name, _ := strings.Cut(pod, "/")
	return name != "" && name == f.Pod
}

// ParseFilter reads a Filter from the parameters of a URL or of a command line:
//
//	namespace  a name
//	service    NAME or NAMESPACE/NAME
//	pod        NAME or NAMESPACE/NAME
//	client     an address or a CIDR
//	reason     one or several, each a parameter of its own or separated by commas
//	side       client, backend, proxy or none
//	errors     true or false
//	since      a time in RFC 3339, or how long before now, as in 10m
//
// Other parameters are not its own. Errors name the parameter and what it may be.
func ParseFilter(q url.Values, now time.Time) (f Filter, err error) {
	f.Namespace, f.Pod = q.Get("namespace"), q.Get("pod")
	for _, p := range []struct {
		name, want string
		read       func(value string) bool
	}{
		{"service", "NAME or NAMESPACE/NAME, of the namespace that is asked for", f.readService},
		{"client", "an address or a CIDR", f.readClient},
		{"reason", "one of: " + reasonNames(), func(string) bool { return f.readReasons(q["reason"]) }},
		{"side", "client, backend, proxy or none", f.readSide},
		{"errors", "true or false", f.readErrors},
		{"since", "a time in RFC 3339, or a duration as in 10m", func(value string) bool { return f.readSince(value, now) }},
	} {
		if value := q.Get(p.name); value != "" && !p.read(value) {
			return Filter{}, fmt.Errorf("%s=%q: want %s", p.name, strings.Join(q[p.name], ","), p.want)
		}
	}
	return f, nil
}

func (f *Filter) readService(value string) bool {
	namespace, name, both := strings.Cut(value, "/")
	if !both {
		f.Service = value
		return true
	}
	if name == "" || namespace == "" || f.Namespace != "" && f.Namespace != namespace {
		return false
	}
	f.Namespace, f.Service = namespace, name
	return true
}

func (f *Filter) readClient(value string) bool {
	prefix, err := netip.ParsePrefix(value)
	if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96) // as clients are
	}
	if err != nil {
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return false
		}
		addr = addr.Unmap().WithZone("")
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	f.Client = prefix.Masked()
	return true
}

func (f *Filter) readReasons(values []string) bool {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if _, known := meanings[Reason(name)]; !known {
				return false
			}
			f.Reasons = append(f.Reasons, Reason(name))
		}
	}
	return true
}

func (f *Filter) readSide(value string) bool {
	f.Side = Side(value)
	return slices.Contains([]Side{SideNone, SideClient, SideBackend, SideProxy}, f.Side)
}

func (f *Filter) readErrors(value string) (ok bool) {
	var err error
	f.Errors, err = strconv.ParseBool(value)
	return err == nil
}

func (f *Filter) readSince(value string, now time.Time) bool {
	if ago, err := time.ParseDuration(value); err == nil && ago >= 0 {
		f.Since = now.Add(-ago)
		return true
	}
	at, err := time.Parse(time.RFC3339, value)
	f.Since = at
	return err == nil
}

// reasonNames are all reasons.
func reasonNames() string {
	var names []string
	for _, r := range Reasons() {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}
