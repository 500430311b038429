package observe

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// A connection that goes on has no end to tell of, and all else.
func TestRecordOfAConnectionThatGoesOn(t *testing.T) {
	o, m, _, _ := setup(t)
	r := o.Open(m.Port("shop", "cart", "http", "tcp"))
	for _, step := range []struct {
		sentence string
		then     func()
	}{
		{"shop/cart:http: it has no endpoint yet", func() { r.SetBackend(ordinary().Backend()) }},
		{"shop/cart:http served by shop/cart-5d8f7c-2: it goes on", func() {
			r.Attempts = []Attempt{{Backend: ordinary().Client, Result: ConnectTimeout, Duration: 2 * time.Second}}
		}},
		{"shop/cart:http served by shop/cart-5d8f7c-2 after 1 failed attempt on 10.0.0.9:51234 (no answer in 2.0 s): it goes on", func() {}},
	} {
		if got := r.Sentence(); got != step.sentence {
			t.Errorf("%s; want %s", got, step.sentence)
		}
		step.then()
	}
	var fields map[string]any
	line, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(line, &fields)
	}
	if err != nil || fields["event"] != "conn.open" || fields["backend_pod"] != "shop/cart-5d8f7c-2" || fields["id"] != r.ID() {
		t.Errorf("%s (%v)", line, err)
	}
	for _, key := range []string{"reason", "code", "side", "phase", "duration_ms", "bytes_in", "client_close", "sent_client", "unsent_client", "tcp_client", "dgrams_in"} {
		if _, there := fields[key]; there {
			t.Errorf("%s is told before the end: %s", key, line)
		}
	}
	if r.Trouble() || r.Phase() != "" {
		t.Errorf("trouble %v in phase %q", r.Trouble(), r.Phase())
	}
}

// Whatever is known by then, nothing of a record fails before its end.
func TestNoRecordNeedsItsEnd(t *testing.T) {
	d := drawing{rand.New(rand.NewPCG(11, 12))}
	ended := slices.Sorted(maps.Keys(ordinary().Fields()))
	for range 1000 {
		r := d.record()
		r.Ending = nil
		if len(r.Fields()) == 0 || r.Sentence() == "" || r.Trouble() {
			t.Fatalf("%+v", r)
		}
	}
	r := ordinary()
	r.Ending = nil
	if now := slices.Sorted(maps.Keys(r.Fields())); len(now) >= len(ended) || slices.ContainsFunc(now, func(k string) bool { return !slices.Contains(ended, k) }) {
		t.Errorf("before the end there are %q, afterwards %q", now, ended)
	}
}

// What a newcomer reads.
func TestSentences(t *testing.T) {
	const ms = time.Millisecond
	for want, change := range map[string]func(*Record){
		"shop/cart:http served by shop/cart-5d8f7c-2: both sides closed after 12 ms, the client first": func(*Record) {},
		"shop/cart:http served by shop/cart-5d8f7c-2: the endpoint reset the connection (ECONNRESET) 2.7 ms after it was connected to, nothing had come from it": func(r *Record) {
			r.Reason, r.Errno, r.FirstReply, r.BackendClose, r.BackendCloseAt = BackendReset, "ECONNRESET", -1, CloseRST, 3*ms
			r.ClientClose, r.ClientCloseAt = CloseNone, -1
		},
		"shop/cart:http served by shop/cart-5d8f7c-2: the client stopped answering (ETIMEDOUT) after 2m5s, with 65536 bytes passed on to it; the endpoint had closed its side after 12 ms; the client has not acknowledged 1 byte": func(r *Record) {
			r.Reason, r.Errno, r.Duration = ClientGone, "ETIMEDOUT", 125*time.Second
			r.Sockets = &Sockets{UnsentClient: 1}
		},
		"shop/cart:http served by shop/cart-5d8f7c-2: the endpoint had closed its side after 12 ms and the client was silent for too long, until 60.0 s": func(r *Record) {
			r.Reason, r.ClientClose, r.Duration = HalfCloseTimeout, CloseNone, time.Minute
		},
		"shop/cart:http: no endpoint could be connected to: shop/cart-1 (ECONNREFUSED), 10.0.0.9:51234 (no answer in 2.0 s), 10.0.0.9:51234 (EHOSTUNREACH) and 1 more": func(r *Record) {
			r.SetBackend(balancer.Endpoint{})
			r.Reason, r.ClientCloseAt, r.Attempts = RetriesExhausted, -1, []Attempt{
				{Backend: r.Client, Pod: "shop/cart-1", Result: BackendRefused, Errno: "ECONNREFUSED"},
				{Backend: r.Client, Result: ConnectTimeout, Duration: 2 * time.Second}, {Backend: r.Client, Result: Superseded},
				{Backend: r.Client, Result: BackendUnreachable, Errno: "EHOSTUNREACH"}, {Backend: r.Client, Result: BackendRefused},
			}
		},
		"shop/cart:http: the client reset the connection before it had an endpoint after 30 ms, having waited for its turn for 20 ms: shop/cart-5d8f7c-2 (no answer in 0.2 ms)": func(r *Record) {
			r.SetBackend(balancer.Endpoint{})
			r.Reason, r.ClientCloseAt, r.Waited, r.Attempts[0].Result = ClientAbort, 30*ms, 20*ms, Abandoned
		},
	} {
		r := ordinary()
		change(r)
		if got := r.Sentence(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
