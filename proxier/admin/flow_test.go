package admin

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// jsonKeys are those of a struct.
func jsonKeys(of any) map[string]bool {
	keys := map[string]bool{}
	for f := range reflect.TypeOf(of).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys[name] = true
	}
	return keys
}

// Every key that package observe can write is one that Flow can read.
func TestFlowKnowsEveryKeyOfARecord(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "../observe/fields.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known, found := jsonKeys(Flow{}), 0
	ast.Inspect(source, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		name, isName := pair.Key.(*ast.Ident)
		text, isText := pair.Value.(*ast.BasicLit)
		if isName && isText && name.Name == "key" {
			found++
			if key, _ := strconv.Unquote(text.Value); !known[key] {
				t.Errorf("a record may have %q, of which Flow knows nothing", key)
			}
		}
		return true
	})
	if found < 50 {
		t.Errorf("only %d keys were found in fields.go", found)
	}
	for _, key := range []string{"ts", "level", "msg", "lost"} {
		if !known[key] {
			t.Errorf("Flow knows nothing of %q", key)
		}
	}
}

// observing makes records.
func observing(t *testing.T) func(protocol string) *observe.Record {
	t.Helper()
	log := observe.NewLog(logrus.New())
	metrics := observe.NewMetrics(prometheus.NewRegistry(), log, nil)
	o := observe.New("node-1", log, metrics, nil, nil)
	return func(protocol string) *observe.Record {
		return o.Record(metrics.Port("shop", "web", "http", protocol), time.Date(2026, 11, 22, 1, 2, 3, 4000, time.UTC))
	}
}

// read is a record as a Flow.
func read(t *testing.T, r *observe.Record) (f Flow) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return f
}

func TestFlowReadsARecord(t *testing.T) {
	r, endpoint := observing(t)("tcp"), netip.MustParseAddrPort("10.1.0.7:8080")
	r.Client, r.VIP = netip.MustParseAddrPort("10.0.0.5:40000"), netip.MustParseAddrPort("10.96.0.1:80")
	r.Attempts = []observe.Attempt{
		{Backend: endpoint, Pod: "shop/web-1", Duration: time.Millisecond, Result: observe.BackendRefused, Errno: "ECONNREFUSED"},
		{Backend: endpoint, Start: time.Millisecond, Duration: 2 * time.Millisecond, Result: observe.OK, Hedged: true},
	}
	r.SetBackend(balancer.Endpoint{Addr: endpoint, Pod: "shop/web-1", Node: "node-1"})
	r.Reason, r.Errno, r.BytesIn, r.BytesOut, r.Duration = observe.ClientReset, "ECONNRESET", 3, 4, 1500*time.Millisecond
	r.ClientClose, r.ClientCloseAt = observe.CloseRST, time.Second

	f := read(t, r)
	want := []FlowAttempt{
		{Backend: "10.1.0.7:8080", Pod: "shop/web-1", DurationMs: 1, Result: "backend_refused", Errno: "ECONNREFUSED"},
		{Backend: "10.1.0.7:8080", StartMs: 1, DurationMs: 2, Result: "ok", Hedged: true},
	}
	if f.ID != r.ID() || f.ClientIP != "10.0.0.5" || f.ClientPort != 40000 || f.VIP != "10.96.0.1" || f.BackendPod != "shop/web-1" || !f.BackendLocal ||
		f.Reason != "client_reset" || f.Errno != "ECONNRESET" || f.BytesOut != 4 || f.ClientClose != "rst" || f.ClientCloseMs != 1000 ||
		f.BackendCloseMs != -1 || !slices.Equal(f.Attempts, want) {
		t.Errorf("it is read as %+v", f)
	}
	if end := r.Start.Add(r.Duration); !f.End().Equal(end) {
		t.Errorf("it ended at %v, not %v", f.End(), end)
	}
}

// A Flow is trouble where its record is.
func TestTroubleOfAFlow(t *testing.T) {
	record := observing(t)
	for _, protocol := range []string{"tcp", "udp"} {
		for _, reason := range []observe.Reason{observe.OK, observe.Idle, observe.Evicted, observe.EndpointRemoved, observe.ServiceRemoved,
			observe.Shutdown, observe.ClientReset, observe.NoEndpoints, observe.BackendRefused} {
			for _, reply := range []time.Duration{-1, 0, time.Second} {
				for _, dropped := range []int64{0, 1} {
					r := record(protocol)
					r.Reason, r.FirstReply = reason, reply
					if protocol == "udp" {
						r.Dropped = dropped
					}
					if f := read(t, r); f.Trouble() != r.Trouble() {
						t.Errorf("%s %s, reply %v, %d dropped: %v, its record %v", protocol, reason, reply, dropped, f.Trouble(), r.Trouble())
					}
				}
			}
		}
	}
}
