package observe

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/sirupsen/logrus"
)

// The lines that Formatter has to write are those that logrus writes of these fields
// and this sentence.

func referenceFormatter(format string) logrus.Formatter {
	if format == "json" {
		return safeJSON{logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyTime: "ts"},
		}}
	}
	first := []string{
		"time", "ts", "level", "msg", "reason", "service", "client_ip", "client_port", "vip", "vip_port",
		"backend_pod", "backend_ip", "backend_port", "attempts", "bytes_in", "bytes_out", "connect_ms", "duration_ms",
	}
	return &logrus.TextFormatter{
		FullTimestamp: true, TimestampFormat: "15:04:05.000",
		SortingFunc: func(keys []string) {
			rank := func(key string) int {
				if i := slices.Index(first, key); i >= 0 {
					return i
				}
				return len(first)
			}
			slices.SortFunc(keys, func(a, b string) int {
				if by := rank(a) - rank(b); by != 0 {
					return by
				}
				return strings.Compare(a, b)
			})
		},
	}
}

// safeJSON also escapes what encoding/json leaves although it is not printable.
type safeJSON struct{ logrus.JSONFormatter }

var unprintable = regexp.MustCompile(`[^\x20-\x7e\n\p{L}\p{M}\p{N}\p{P}\p{S}]`)

func (f safeJSON) Format(e *logrus.Entry) ([]byte, error) {
	line, err := f.JSONFormatter.Format(e)
	return escapedJSON(line), err
}

func escapedJSON(text []byte) []byte {
	return unprintable.ReplaceAllFunc(text, func(of []byte) []byte {
		var escaped []byte
		for _, unit := range utf16.Encode([]rune(string(of))) {
			escaped = fmt.Appendf(escaped, `\u%04x`, unit)
		}
		return escaped
	})
}

func referenceFields(r *Record) logrus.Fields {
	f := logrus.Fields{
		"v": 1, "id": r.ID(), "node": r.Node(),
		"start": r.Start.UTC().Format(time.RFC3339Nano),
		"proto": r.Protocol, "family": r.Family,
		"ns": r.Namespace, "service": r.Service, "port_name": r.PortName,
		"client_ip": r.Client.Addr().String(), "client_port": r.Client.Port(),
		"listener": r.Listener.String(),
		"balancer": r.Balancer.String(), "candidates": r.Candidates, "eligible": r.Eligible,
		"duration_ms": referenceMilliseconds(r.Duration),
		"bytes_in":    r.BytesIn, "bytes_out": r.BytesOut,
		"first_byte_backend_ms": referenceMilliseconds(r.FirstReply),
		"reason":                string(r.Reason), "code": r.Reason.Code(),
		"side": string(r.Reason.Side()), "phase": r.Reason.Phase(),
	}
	if r.Protocol == "udp" && f["phase"] == "connect" {
		f["phase"] = "data"
	}
	if r.Protocol == "udp" {
		maps.Copy(f, referenceSession(r))
	} else {
		maps.Copy(f, referenceConnection(r))
	}
	setIf := func(key, value string) {
		if value != "" {
			f[key] = value
		}
	}
	if r.VIP.IsValid() {
		f["vip"] = r.VIP.Addr().String()
	}
	if r.VIP.Port() > 0 {
		f["vip_port"], f["vip_kind"] = r.VIP.Port(), r.VIPKind.String()
	}
	if r.Backend().Addr.IsValid() {
		f["backend_ip"], f["backend_port"] = r.Backend().Addr.Addr().String(), r.Backend().Addr.Port()
		f["local_port"], f["source"] = r.LocalPort, r.Source.String()
		setIf("source_why", r.SourceWhy.String())
		f["backend_local"] = r.Backend().Node != "" && r.Backend().Node == r.Node()
		setIf("backend_pod", r.Backend().Pod)
		setIf("backend_node", r.Backend().Node)
		setIf("backend_zone", r.Backend().Zone)
	}
	if r.ServiceActive > 0 {
		f["svc_active"], f["global_active"] = r.ServiceActive, r.GlobalActive
	}
	setIf("phase", r.During.String())
	setIf("pick", r.Pick.String())
	if s := r.Sockets; s != nil {
		f["unsent_client"], f["unsent_backend"] = s.UnsentClient, s.UnsentBackend
		if s.Client != nil {
			f["tcp_client"] = s.Client
		}
		if s.Backend != nil {
			f["tcp_backend"] = s.Backend
		}
	}
	setIf("client_ip_kind", r.ClientKind.String())
	setIf("set", r.Set.String())
	setIf("affinity", r.Affinity.String())
	setIf("errno", r.Errno)
	return f
}

func referenceConnection(r *Record) logrus.Fields {
	return logrus.Fields{
		"event":    "conn.close",
		"attempts": referenceListOf(r), "attempts_total": len(r.Attempts),
		"accept_wait_ms": referenceMilliseconds(r.Waited), "connect_ms": referenceMilliseconds(r.Connect),
		"first_byte_client_ms": referenceMilliseconds(r.FirstByte),
		"client_close":         r.ClientClose.String(), "client_close_ms": referenceMilliseconds(r.ClientCloseAt),
		"backend_close": r.BackendClose.String(), "backend_close_ms": referenceMilliseconds(r.BackendCloseAt),
		"sent_client": r.SentClient.String(), "sent_backend": r.SentBackend.String(),
	}
}

func referenceSession(r *Record) logrus.Fields {
	f := logrus.Fields{
		"event":     "udp.close",
		"dgrams_in": r.DatagramsIn, "dgrams_out": r.DatagramsOut, "dgrams_dropped": r.Dropped,
	}
	if len(r.Attempts) > 0 {
		f["attempts"], f["attempts_total"] = referenceListOf(r), len(r.Attempts)
	}
	return f
}

func referenceMilliseconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return float64(d.Microseconds()) / 1000
}

type referenceAttempt struct {
	Backend  string  `json:"backend"`
	Pod      string  `json:"pod,omitempty"`
	StartMS  float64 `json:"start_ms"`
	Duration float64 `json:"dur_ms"`
	Result   string  `json:"result"`
	Errno    string  `json:"errno,omitempty"`
	Hedged   bool    `json:"hedged,omitempty"`
}

type referenceList []referenceAttempt

func referenceListOf(r *Record) referenceList {
	list := make(referenceList, len(r.Attempts))
	for i, a := range r.Attempts {
		list[i] = referenceAttempt{
			a.Backend.String(), a.Pod, referenceMilliseconds(a.Start), referenceMilliseconds(a.Duration), string(a.Result), a.Errno, a.Hedged,
		}
	}
	return list
}

func (list referenceList) String() string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.Backend + "=" + a.Result
		if a.Errno != "" {
			words[i] += "(" + a.Errno + ")"
		}
	}
	return strings.Join(words, ",")
}

func referenceSentence(r *Record) string {
	plural := func(n int64, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	name := func(pod string, addr netip.AddrPort) string {
		if pod != "" {
			return pod
		}
		return addr.String()
	}
	s := r.Namespace + "/" + r.Service
	if r.PortName != "" {
		s += ":" + r.PortName
	}
	session, answered := r.Protocol == "udp", r.FirstReply >= 0
	if r.Backend().Addr.IsValid() {
		verb := "served by"
		if session && !answered {
			verb = "passed to"
		}
		s += " " + verb + " " + name(r.Backend().Pod, r.Backend().Addr)
	}
	if session {
		s += " (" + plural(r.DatagramsIn, "datagram") + " in, "
		if answered {
			s += fmt.Sprintf("%d out", r.DatagramsOut)
		} else {
			s += "never answered"
		}
		if r.Dropped > 0 {
			s += fmt.Sprintf(", %d dropped", r.Dropped)
		}
		s += ")"
	}
	tell := func(which ...Reason) (told string, n int64) {
		var all []string
		for _, a := range r.Attempts {
			if slices.Contains(which, a.Result) {
				continue
			}
			why := cmp.Or(a.Errno, string(a.Result))
			switch {
			case a.Result == BackendResetEarly && a.Errno == "":
				why = "closed without an answer"
			case a.Result == BackendResetEarly:
				why += " without an answer"
			case a.Errno != "":
			case a.Result == ConnectTimeout, a.Result == Abandoned:
				why = "no answer in " + referenceDuration(a.Duration)
			}
			all = append(all, fmt.Sprintf("%s (%s)", name(a.Pod, a.Backend), why))
		}
		if n = int64(len(all)); n > 3 {
			return strings.Join(all[:3], ", ") + fmt.Sprintf(" and %d more", n-3), n
		}
		return strings.Join(all, ", "), n
	}
	if failed, n := tell(OK, Superseded, Abandoned); r.Backend().Addr.IsValid() && n > 0 {
		s += fmt.Sprintf(" after %s on %s", plural(n, "failed attempt"), failed)
	}
	s += ": "
	after := func(what string, d time.Duration) { s += what + " after " + referenceDuration(d) }
	client, endpoint := r.Reason.Side() == SideClient, r.Reason.Side() == SideBackend
	switch {
	case session:
		return s + r.Reason.Text()
	case !r.Backend().Addr.IsValid():
		s += r.Reason.Text()
		if r.ClientCloseAt >= 0 {
			after("", r.ClientCloseAt)
		}
		if r.Waited > 0 {
			s += ", having waited for its turn for " + referenceDuration(r.Waited)
		}
		if tried, n := tell(OK, Superseded); n > 0 {
			s += ": " + tried
		}
		return s
	case r.Reason == OK:
		after(r.Reason.Text(), r.Duration)
		if r.BackendCloseAt >= 0 && r.BackendCloseAt < r.ClientCloseAt {
			return s + ", the endpoint first"
		} else if r.ClientCloseAt >= 0 && r.BackendCloseAt >= 0 {
			return s + ", the client first"
		}
		return s
	case r.Reason == HalfCloseTimeout && r.ClientClose == CloseFIN:
		after("the client had closed its side", r.ClientCloseAt)
		s += " and the endpoint was silent for too long, until " + referenceDuration(r.Duration)
	case r.Reason == HalfCloseTimeout:
		after("the endpoint had closed its side", r.BackendCloseAt)
		s += " and the client was silent for too long, until " + referenceDuration(r.Duration)
	default:
		s += r.Reason.Text()
		if r.Errno != "" {
			s += " (" + r.Errno + ")"
		}
	}
	if n := len(r.Attempts); r.Reason == HalfCloseTimeout {
	} else if endpoint && r.BackendCloseAt >= 0 && n > 0 {
		s += " " + referenceDuration(r.BackendCloseAt-r.Attempts[n-1].Start-r.Attempts[n-1].Duration) + " after it was connected to"
	} else if endpoint || client {
		after("", r.Duration)
	} else {
		s += "; it had lasted " + referenceDuration(r.Duration)
	}
	switch {
	case endpoint && !answered:
		s += ", nothing had come from it"
	case endpoint:
		s += ", with " + plural(r.BytesOut, "byte") + " passed on from it"
	case client:
		s += ", with " + plural(r.BytesOut, "byte") + " passed on to it"
	}
	if client && r.BackendClose == CloseFIN {
		after("; the endpoint had closed its side", r.BackendCloseAt)
	}
	if endpoint && r.ClientClose == CloseFIN {
		after("; the client had closed its side", r.ClientCloseAt)
	}
	if r.Sockets != nil && r.Sockets.UnsentClient > 0 {
		s += "; the client has not acknowledged " + plural(r.Sockets.UnsentClient, "byte")
	}
	if r.Sockets != nil && r.Sockets.UnsentBackend > 0 {
		s += "; the endpoint has not acknowledged " + plural(r.Sockets.UnsentBackend, "byte")
	}
	return s
}

func referenceDuration(d time.Duration) string {
	down := func(to time.Duration) float64 { return float64(max(d, 0)/to) / 10 }
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", down(time.Millisecond/10))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", down(time.Second/10))
	}
	return d.Truncate(time.Second).String()
}
