package observe

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// RECORDS.md is made here: what is in fields.go and reason.go by itself, and the words for
// it from the tables below, which have to be complete.

var update = flag.Bool("update", false, "write RECORDS.md")

// keyWords say what each key means.
var keyWords = map[string]string{
	"ts":    "when the record ended (RFC 3339)",
	"level": "`warning` if the client may have missed something, else `info`",
	"msg":   "the record as one plain sentence",

	"v":         "version of this format: 1",
	"event":     "`conn.close`: a TCP connection has ended; `udp.close`: a UDP session has",
	"id":        "tells it apart from all others of the node; `usher describe connection ID` shows it again while the ring holds it",
	"node":      "the node that usher runs on",
	"start":     "when the connection was accepted, or the session's first datagram came (RFC 3339, UTC); all other times of the record count from here",
	"proto":     "`tcp` or `udp`",
	"family":    "4 or 6: the IP version of the Service address",
	"ns":        "namespace of the Service",
	"service":   "its name",
	"port_name": "name of its port; empty if it has none",

	"client_ip":      "the client's address, as it reached this node: a router before it may have translated it (SNAT)",
	"client_port":    "the client's port",
	"client_ip_kind": "where the client is: `node` (a process of this node), `pod` (a pod of this node) or `external` (anywhere else)",
	"listener":       "usher's own address and port that the rules led the client to",
	"vip":            "the address that the client dialled (SO_ORIGINAL_DST); absent where the kernel does not tell",
	"vip_port":       "the port that it dialled",
	"vip_kind":       "what kind of address that is: `cluster`, `node_port`, `external` or `load_balancer`",

	"balancer":   "the policy that was asked",
	"pick":       "why this endpoint: the policy's name, or what was stronger: `affinity_hit`, `affinity_broken` (the client's own endpoint could not be had), `last_resort` (it was ill, and all others had failed) or `fallback_terminating` (none is ready)",
	"affinity":   "what session affinity had to do with it: `hit`, `new` or `broken`",
	"set":        "which endpoints were eligible: `cluster`, or `local` for those on this node",
	"candidates": "endpoints that there were, whatever their state",
	"eligible":   "those of them that this client might get, well or ill",

	"attempts":       "the endpoints that were tried, in order (below); of UDP, those that had refused the client's datagrams before",
	"attempts_total": "how many",
	"backend_ip":     "the endpoint that served the client",
	"backend_port":   "its port",
	"backend_pod":    "its pod, as namespace/name",
	"backend_node":   "the node that it is on",
	"backend_zone":   "its zone",
	"backend_local":  "whether that is this node",
	"local_port":     "usher's own port towards the endpoint: find the connection by it in `ss`, `tcpdump` or `conntrack -L`",
	"source":         "whose address the endpoint sees: `client` or `node`",
	"source_why":     "why it sees the node's: `not_promised` (Kubernetes promises nothing else here), `off` (`--preserve-source=never`, or impossible on this node), or why its answers would not come back this way: `hairpin`, `host_client`, `host_endpoint`, `same_device`, `elsewhere`, `link_local`, `other_family`, `unknown`",

	"duration_ms":           "from start to end",
	"accept_wait_ms":        "how long it waited for its turn at a limit (`on-limit`)",
	"connect_ms":            "how long the attempt took that succeeded",
	"first_byte_client_ms":  "when the client first sent something",
	"first_byte_backend_ms": "when the endpoint first sent something: time to first byte",
	"client_close_ms":       "when the client's side ended; compare with `backend_close_ms` to see who began",
	"backend_close_ms":      "when the endpoint's side ended",
	"client_close":          "how the client's side ended: `none` (it did not), `fin`, `rst`, `timeout` (it stopped answering) or `local` (something on this node destroyed the socket)",
	"backend_close":         "how the endpoint's side ended, in the same words",
	"sent_client":           "what usher sent to the client to end its side: `none`, `fin` or `rst`",
	"sent_backend":          "what usher sent to the endpoint",

	"bytes_in":       "bytes from the client",
	"bytes_out":      "bytes to the client",
	"dgrams_in":      "datagrams passed on from the client",
	"dgrams_out":     "datagrams passed on to the client",
	"dgrams_dropped": "datagrams of either direction that could not be passed on",
	"unsent_client":  "bytes that the client had not acknowledged at the end (SIOCOUTQ): above 0, it may not have them",
	"unsent_backend": "bytes that the endpoint had not acknowledged",
	"tcp_client":     "what the kernel knew of the client's socket (below)",
	"tcp_backend":    "the same of the endpoint's socket",

	"reason": "why it ended (below)",
	"code":   "the reason in two letters",
	"side":   "who caused the end: `client`, `backend`, `proxy` or `none`",
	"phase":  "when it ended: `accept`, `pick`, `connect`, `data` or `drain`; not always the usual one of the reason",
	"errno":  "the kernel's name of the error (errno(3)), as `ECONNRESET`",

	"svc_active":    "connections of the Service port when this one was accepted, itself included",
	"global_active": "connections in all, likewise",
}

// attemptWords are those of the members of attempts.
var attemptWords = [][2]string{
	{"backend", "the endpoint, as IP:port"},
	{"pod", "its pod, as namespace/name; absent if it has none"},
	{"start_ms", "when the attempt began, since the connection was accepted"},
	{"dur_ms", "how long it took"},
	{"result", "`ok`, or the reason that this attempt alone would have ended with"},
	{"errno", "the kernel's name of the error; absent if there was none"},
	{"hedged", "`true` if it began while another attempt was waiting (`hedge`), else absent"},
}

// tcpWords are those of TCPInfo.
var tcpWords = [][2]string{
	{"rtt_us", "smoothed round-trip time, in microseconds"},
	{"rttvar_us", "how it varies, in microseconds"},
	{"retrans", "segments that were sent again, since the connection began"},
	{"lost", "segments that are taken for lost now"},
	{"snd_mss", "bytes in a segment to the peer"},
	{"state", "state of the socket, in the names of RFC 9293"},
	{"last_recv_ms", "how long ago the last data came, in milliseconds"},
}

// reasonWords say of each reason what can have it, and what to do about it.
var reasonWords = map[Reason]struct{ of, remedy string }{
	OK:                 {"TCP", "nothing"},
	ClientAbort:        {"TCP", "see `attempts` and `accept_wait_ms`: clients give up while connecting takes long"},
	ClientReset:        {"TCP", "look at the client: a time limit of its own, a crash, or a close with data unread"},
	ClientGone:         {"TCP", "look at the network to the client, or at a client that reads nothing (`tcp-keepalive`, `tcp-user-timeout`)"},
	BackendRefused:     {"TCP, UDP", "nobody listens at the endpoint's port: look at the pod, its containerPort and its readiness probe"},
	BackendUnreachable: {"TCP, UDP", "`errno` says why: no route (ENETUNREACH, EHOSTUNREACH), or a firewall (EACCES, EPERM); look at the network to the pod's node"},
	ConnectTimeout:     {"TCP", "SYNs vanish, or the endpoint's backlog is full: look at network policies and at the pod's load (`connect-timeout`)"},
	BackendResetEarly:  {"TCP", "look at the pod's log: it accepts and hangs up; `retry-on: reset-early` tries another endpoint"},
	BackendReset:       {"TCP", "look at the pod's log: it was killed, has crashed, or closed with data unread"},
	BackendGone:        {"TCP", "look at the pod's node and the network to it (`tcp-keepalive`, `tcp-user-timeout`)"},
	HalfCloseTimeout:   {"TCP", "if an answer may take that long, raise `half-close-timeout`"},
	IdleTimeout:        {"TCP", "if silence is normal, raise `idle-timeout`, or have the application send a sign of life"},
	MaxDuration:        {"TCP", "as asked for by `max-connection-duration`"},
	RetriesExhausted:   {"TCP", "see `attempts` for what each endpoint said, and `usher get endpoints` for how they are (`retries`, `retry-budget`)"},
	NoEndpoints:        {"TCP", "look at the Service's selector and at whether its pods run; `usher explain` shows each endpoint"},
	NoReadyEndpoints:   {"TCP", "look at the readiness of the pods"},
	NoLocalEndpoints:   {"TCP", "run a pod of it on this node, or change the traffic policy"},
	DirectAccess:       {"TCP", "dial the Service's address; somebody may be scanning ports"},
	SourceDenied:       {"TCP", "widen `spec.loadBalancerSourceRanges` if the client may in"},
	LimitGlobal:        {"TCP", "raise `--max-connections`, or the limit of open files (LimitNOFILE)"},
	LimitService:       {"TCP", "raise `max-connections`, or let clients wait (`on-limit`)"},
	LimitBackend:       {"TCP", "raise `max-connections-per-endpoint`, or add endpoints"},
	LimitClient:        {"TCP", "raise `max-connections-per-client`, if these clients may have more"},
	RateLimited:        {"TCP", "raise `connection-rate`, if clients may be so fast"},
	OutOfFiles:         {"TCP", "raise the limit of open files (LimitNOFILE)"},
	OutOfMemory:        {"TCP", "give the kernel more memory for sockets (net.ipv4.tcp_mem)"},
	OutOfPorts:         {"TCP", "widen net.ipv4.ip_local_port_range, or add endpoints"},
	Idle:               {"UDP", "nothing: so sessions end (`udp-idle-timeout`, `udp-stream-timeout`)"},
	Evicted:            {"UDP", "raise `udp-max-sessions`, if so many clients are right"},
	EndpointRemoved:    {"TCP, UDP", "nothing in a rollout; TCP ends only where `drain-timeout` asks for it"},
	EndpointUnhealthy:  {"TCP", "look at the pod's readiness; it ends only where `on-endpoint-unready` asks for it"},
	ServiceRemoved:     {"UDP", "nothing, if somebody meant to remove it"},
	AdminKilled:        {"TCP", "somebody ran `usher kill connection`: the log says which user"},
	Shutdown:           {"TCP, UDP", "usher was stopped; `--drain-timeout` is what connections have to end by themselves"},
	SocketDestroyed:    {"TCP", "something on the node did what `ss -K` does: look for an agent that ends connections"},
	Superseded:         {"attempt", "nothing: the hedge was worth it"},
	Abandoned:          {"attempt", "nothing: see the reason of the connection"},
	InternalError:      {"TCP", "please report what the log says of it"},
}

// markdown is RECORDS.md.
func markdown() string {
	var b strings.Builder
	b.WriteString(`# The record of a connection

Made by "go generate ./proxier/observe" from the code that writes records.

There is one record for each TCP connection and each UDP session, at its end. It is a line of the log (with
` + "`--log-format=json`" + `, or in the file of ` + "`--log-file`" + `, the JSON object that is described here; else the same keys as key=value),
a line of ` + "`/v1/flows`" + ` at the admin socket, and so what ` + "`usher observe -o json`" + ` prints:

`)
	b.WriteString("```json\n" + string(exampleLine()) + "```\n\n")
	b.WriteString(`Its sentence: ` + exampleRecord().Sentence() + `.

Which of them get a line say ` + "`--log-connections`" + ` (the annotation ` + "`log`" + `), ` + "`--log-max-errors`" + ` and ` + "`--log-level`" + `. What begins with -- here is a
flag of usher run; other settings, such as ` + "`on-limit`" + `, are annotations of a Service ([ANNOTATIONS.md](../annotation/ANNOTATIONS.md)).

## Keys

Keys ending in ` + "`_ms`" + ` are milliseconds with three decimals on a clock that nobody sets, -1 for what never happened. A key that
a record has nothing for is absent. Readers should pass over keys that they do not know.

| key | type | in | meaning |
|---|---|---|---|
`)
	for _, k := range documented() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.key, k.kind, k.of, keyWords[k.key])
	}
	writeWords(&b, "An item of `attempts`", attemptWords)
	writeWords(&b, "`tcp_client` and `tcp_backend`: TCP_INFO of tcp(7), for which connections says `--log-tcp-info`", tcpWords)
	b.WriteString(`
## Reasons

The set is closed. ` + "`side`" + ` is who caused the end, ` + "`phase`" + ` when it usually happens, ` + "`of`" + ` what can end so; an attempt's reason stands in
its ` + "`result`" + ` only. In the code a capital first letter is an event and a small one a timer, in the manner of HAProxy.
` + "`test/reasons`" + ` brings about each of them on purpose.

A record's level is ` + "`info`" + ` for ` + "`ok`" + ` and ` + "`idle`" + `, and for a UDP session that usher ended (` + "`evicted`, `endpoint_removed`, `service_removed`, `shutdown`" + `)
after the endpoint had answered, as the next datagram opens another one; unless datagrams were dropped. It is ` + "`warning`" + ` for all others.

| reason | code | side | phase | of | meaning | what to do |
|---|---|---|---|---|---|---|
`)
	for _, r := range slices.SortedFunc(maps.Keys(meanings), byPhase) {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s | %s |\n", r, r.Code(), r.Side(), r.Phase(), reasonWords[r].of, r.Text(), reasonWords[r].remedy)
	}
	b.WriteString(`
## Other lines

| line | where | meaning |
|---|---|---|
| ` + "`" + `"event":"log.omitted"` + "`" + ` | log | ` + "`omitted`" + ` records of one Service port and reason were left out (` + "`--log-max-errors`" + `) |
| ` + "`" + `{"lost":N}` + "`" + ` | ` + "`/v1/flows`" + ` | this reader was too slow: N records were overwritten in the ring before they could be sent |
| ` + "`" + `{"error":"..."}` + "`" + ` | ` + "`/v1/flows`" + ` | the last line, if it ends by a fault |
`)
	return b.String()
}

func writeWords(b *strings.Builder, title string, words [][2]string) {
	fmt.Fprintf(b, "\n%s:\n\n| key | meaning |\n|---|---|\n", title)
	for _, w := range words {
		fmt.Fprintf(b, "| `%s` | %s |\n", w[0], w[1])
	}
}

// byPhase sorts reasons by when they happen, then by name.
func byPhase(a, b Reason) int {
	phases := []string{"accept", "pick", "connect", "data", "drain"}
	if by := slices.Index(phases, a.Phase()) - slices.Index(phases, b.Phase()); by != 0 {
		return by
	}
	return strings.Compare(string(a), string(b))
}

// documentedKey is a row of the keys.
type documentedKey struct{ key, kind, of string }

// documented are all keys of a line, once each, those of the entry first.
func documented() (list []documentedKey) {
	full := exampleRecord()
	for _, f := range slices.Concat(entryFields("ts"), fields) {
		said := fieldMap{}
		f.say(said, f.key, full)
		row := documentedKey{f.key, jsonType(said[f.key]), presence(f.needs)}
		if i := slices.IndexFunc(list, func(k documentedKey) bool { return k.key == f.key }); i >= 0 {
			list[i].of = "all" // it has one form in TCP and one in UDP
			continue
		}
		list = append(list, row)
	}
	return list
}

// jsonType is the type that a value has in JSON.
func jsonType(of any) string {
	switch of.(type) {
	case int64, float64:
		return "number"
	case bool:
		return "bool"
	case attempts:
		return "list"
	case *TCPInfo:
		return "object"
	}
	return "string"
}

// presence says which records that have ended have something.
func presence(needs trait) string {
	switch {
	case needs&ofConnection != 0:
		return "TCP"
	case needs&ofSession != 0:
		return "UDP"
	case needs&tried != 0:
		return "TCP; UDP if any"
	case needs&(withVIP|withVIPPort) != 0:
		return "if known"
	case needs&withBackend != 0:
		return "if it had an endpoint"
	case needs&(withSockets|withActive) != 0:
		return "TCP, if known"
	}
	return "all"
}

// exampleRecord has everything that a connection's record may have.
func exampleRecord() *Record {
	r := ordinary()
	r.Start = r.Start.UTC()
	refused := Attempt{Backend: netip.MustParseAddrPort("10.0.0.3:8080"), Pod: "shop/cart-5d8f7c-1", Result: BackendRefused, Errno: "ECONNREFUSED",
		Start: 61 * time.Microsecond, Duration: 187 * time.Microsecond}
	r.Attempts[0].Start = refused.Start + refused.Duration
	r.Attempts = slices.Insert(r.Attempts, 0, refused)
	r.Affinity = WordOf("new")
	r.Source, r.SourceWhy = WordOf("node"), WordOf("not_promised")
	r.Reason, r.Errno, r.BackendClose, r.SentClient = BackendReset, "ECONNRESET", CloseRST, CloseRST
	r.BackendCloseAt, r.ClientClose, r.ClientCloseAt, r.SentBackend = r.Duration, CloseNone, -1, CloseNone
	info := NewTCPInfo(&unix.TCPInfo{Rtt: 112, Rttvar: 40, Snd_mss: 1448, State: 1, Last_data_recv: 11})
	closed := *info
	closed.State = tcpState(7)
	r.Sockets = &Sockets{Client: info, Backend: &closed, UnsentClient: 1448}
	return r
}

// exampleLine is its line, indented.
func exampleLine() []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, AppendJSON(nil, exampleRecord()), "", "  "); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestMarkdownIsCurrent(t *testing.T) {
	const file = "RECORDS.md"
	if *update {
		if err := os.WriteFile(file, []byte(markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != markdown() {
		t.Errorf("%s is not what the code says: run go generate ./proxier/observe", file)
	}
}

// Whoever adds a key or a reason says here what it means.
func TestEveryKeyAndReasonIsDocumented(t *testing.T) {
	var keys []string
	for _, k := range documented() {
		keys = append(keys, k.key)
	}
	same(t, "keys", keys, slices.Collect(maps.Keys(keyWords)))
	same(t, "reasons", Reasons(), slices.Collect(maps.Keys(reasonWords)))

	full := exampleRecord()
	full.Attempts[0].Hedged = true
	var line struct {
		Attempts []map[string]any `json:"attempts"`
	}
	if err := json.Unmarshal(AppendJSON(nil, full), &line); err != nil {
		t.Fatal(err)
	}
	same(t, "keys of an attempt", slices.Collect(maps.Keys(line.Attempts[0])), firsts(attemptWords))
	var members []string
	for i := range reflect.TypeFor[TCPInfo]().NumField() {
		members = append(members, reflect.TypeFor[TCPInfo]().Field(i).Tag.Get("json"))
	}
	same(t, "keys of TCP_INFO", members, firsts(tcpWords))

	for row := range strings.Lines(markdown()) {
		if n := strings.Count(row, "|"); strings.HasPrefix(row, "|") && !slices.Contains([]int{3, 4, 5, 8}, n) {
			t.Errorf("a cell has a | or a line break in it: %s", row)
		}
	}
}

func same[T ~string](t *testing.T, what string, are, documented []T) {
	t.Helper()
	slices.Sort(are)
	slices.Sort(documented)
	if !slices.Equal(are, documented) {
		t.Errorf("%s are\n%s, documented are\n%s", what, are, documented)
	}
}

func firsts(words [][2]string) (list []string) {
	for _, w := range words {
		list = append(list, w[0])
	}
	return list
}
