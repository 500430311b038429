package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

func TestObserve(t *testing.T) {
	refused, session := retried(), admin.Flow{ID: "b-9", Namespace: "kube-system", Service: "kube-dns", Protocol: "udp", ClientIP: "10.0.0.5", ClientPort: 53, BackendIP: "10.1.0.9", BackendPort: 53,
		Reason: "idle", Code: "iD", Side: "proxy", FirstByteBackendMs: 1, DatagramsIn: 2, DatagramsOut: 3}
	refused.BackendIP, refused.BackendPod, refused.Reason, refused.Code, refused.Side, refused.Errno = "", "", "no_endpoints", "NE", "proxy", ""
	refused.ID = "b-8"
	socket := telling(t, map[string]any{"/v1/flows": []admin.Flow{retried(), refused, session}})
	for args, want := range map[string][]string{
		"": {"10.0.0.5:4000 -> shop/web:http -> shop/web-2 tcp client_reset 1.5s 10B/2.0kB failed: shop/web-1=ECONNREFUSED (CD (ECONNRESET): the client reset the connection)\n",
			"10.0.0.5:4000 -> shop/web:http tcp no_endpoints", "(NE: the Service has no usable endpoint)\n", "kube-system/kube-dns -> 10.1.0.9:53 udp idle 0ms 0B/0B 2/3 datagrams\n"},
		"-o wide":                 {"client_reset", " id=b-7 vip=10.96.0.1:80 endpoint=10.1.0.2:8080", "local_port=4711 connect=0.5ms client=rst endpoint=fin\n"},
		"-o dict":                 {"ID: b-7\n", "REASON: client_reset (CD, side: client, ECONNRESET)\n", "SUMMARY: shop/web served", "------------\n", "ID: b-8\n"},
		"--color=always":          {"\x1b[31mclient_reset\x1b[0m", "\x1b[35mno_endpoints\x1b[0m", "\x1b[32midle\x1b[0m"},
		"--color=always -o dict":  {"\x1b[31mclient_reset"},
		"--color=auto --errors":   {"client_reset 1.5s"},
		"--to-service shop/web":   {"client_reset"},
		"--from-ip 10.0.0.0/8":    {"client_reset"},
		"--side proxy --last 5":   {"no_endpoints"},
		"--since 10m --pod web-1": {"client_reset"},
	} {
		out, messages, code := saidOf(t, append(strings.Fields("observe "+args), "--admin-socket="+socket)...)
		if code != 0 || messages != "" {
			t.Errorf("observe %s: exit code %d, %s", args, code, messages)
		}
		has(t, "observe "+args, out, want...)
		if strings.Contains(out, "\x1b") != strings.Contains(args, "always") {
			t.Errorf("observe %s: it has colours, or none:\n%q", args, out)
		}
	}

	empty := telling(t, map[string]any{"/v1/flows": []admin.Flow{}})
	if out, messages, code := saidOf(t, "observe", "-s", "shop/web", "--admin-socket="+empty); code != 0 || out != "" || !strings.Contains(messages, "no connection that fits has ended") {
		t.Errorf("nothing: exit code %d, %q, %q", code, out, messages)
	}

	out, _, _ := saidOf(t, "observe", "-o", "json", "--admin-socket="+socket)
	var got []admin.Flow
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var f admin.Flow
		if err := d.Decode(&f); err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	if len(got) != 3 || !reflect.DeepEqual(got[0].Attempts, retried().Attempts) || strings.Count(out, "\n") != 3 {
		t.Errorf("as JSON it prints\n%s", out)
	}
}

// What usher is asked for.
func TestQueriesOfObserve(t *testing.T) {
	var got url.Values
	socket := streamSocket(t, nil, func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Query() })
	for args, want := range map[string]url.Values{
		"":                             {"last": {"20"}},
		"--last 0":                     {"last": {"0"}},
		"--since 10m":                  {"last": {"16384"}, "since": {"10m"}},
		"--since 10m --last 3":         {"last": {"3"}, "since": {"10m"}},
		"-s shop/web -n shop --errors": {"last": {"20"}, "service": {"shop/web"}, "namespace": {"shop"}, "errors": {"true"}},
		"--reason ok --reason idle,evicted --side none --client fd00::/8 --pod a/b": {"last": {"20"}, "reason": {"ok", "idle", "evicted"}, "side": {"none"}, "client": {"fd00::/8"}, "pod": {"a/b"}},
	} {
		saidOf(t, append(strings.Fields("observe "+args), "--admin-socket="+socket)...)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("observe %s asks for %v, want %v", args, got, want)
		}
	}
}

func TestObserveWrongly(t *testing.T) {
	socket := telling(t, nil)
	for args, want := range map[string]string{
		"--reason nonsense": `--reason="nonsense": want one of: `,
		"--side left":       `--side="left": want client, backend, proxy or none`,
		"--client me":       `--client="me": want an address or a CIDR`,
		"--since tomorrow":  `--since="tomorrow": want a time in RFC 3339`,
		"--last -1":         "--last=-1: want",
		"-o xml":            "--output=xml: want compact, wide, dict or json",
		"--color=red":       "--color=red: want auto, always or never",
		"shop/web":          `unexpected argument "shop/web"`,
	} {
		if _, messages, code := saidOf(t, append(strings.Fields("observe "+args), "--admin-socket="+socket)...); code != exitUsage || !strings.Contains(messages, want) {
			t.Errorf("observe %s: exit code %d: %s", args, code, messages)
		}
	}
	for _, args := range []string{"observe", "observe -f"} {
		nobody := filepath.Join(t.TempDir(), "none")
		if _, messages, code := saidOf(t, append(strings.Fields(args), "--admin-socket="+nobody)...); code != exitUnreachable {
			t.Errorf("%s: exit code %d: %s", args, code, messages)
		}
	}
}

// Somebody who follows sees each flow once, hears what is lost, and goes on when usher is
// back, until he is asked to stop.
func TestObserveFollows(t *testing.T) {
	defer func(a, b time.Duration) { firstPause, lastPause = a, b }(firstPause, lastPause)
	firstPause, lastPause = time.Millisecond, 10*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	socket := filepath.Join(t.TempDir(), "usher.sock")
	status := map[string]admin.View{"/v1/status": {Show: func(url.Values) (any, error) { return admin.Status{Ready: true}, nil }}}
	flow := func(n int) admin.Flow {
		f := retried()
		f.ID = fmt.Sprint("b-", n)
		return f
	}
	first := make(chan struct{})
	stop := streamAt(t, socket, status, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(flow(1))
		fmt.Fprintln(w, `{"lost":17}`)
		json.NewEncoder(w).Encode(flow(2))
		w.(http.Flusher).Flush()
		close(first)
		<-r.Context().Done()
	})
	var queries []url.Values
	var mu sync.Mutex
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-first
		stop()
		stop = streamAt(t, socket, status, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			queries = append(queries, r.URL.Query())
			mu.Unlock()
			json.NewEncoder(w).Encode(flow(2))
			json.NewEncoder(w).Encode(flow(3))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
	}()
	root := newRoot(nil)
	var told strings.Builder
	seen, lines := io.Pipe()
	root.SetOut(lines)
	root.SetErr(&told)
	root.SetArgs([]string{"observe", "-f", "-o", "json", "--admin-socket=" + socket})
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx); lines.Close() }()

	var ids []string
	for d := json.NewDecoder(seen); len(ids) < 3; {
		var f admin.Flow
		if err := d.Decode(&f); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, f.ID)
	}
	cancel()
	go io.Copy(io.Discard, seen)
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	<-restarted
	stop()
	if !reflect.DeepEqual(ids, []string{"b-1", "b-2", "b-3"}) {
		t.Errorf("it shows %v", ids)
	}
	has(t, "observe", told.String(), "usher: 17 flows were lost here", "usher has ended the stream", "usher is back\n")
	f := flow(2)
	if since, err := time.Parse(time.RFC3339Nano, queries[0].Get("since")); err != nil || since.After(f.End()) || queries[0].Get("follow") != "true" {
		t.Errorf("afterwards it asks for %v", queries[0])
	}
}

// A reader who has gone is no fault.
func TestObserveIntoAClosedPipe(t *testing.T) {
	socket := telling(t, map[string]any{"/v1/status": admin.Status{}, "/v1/flows": []admin.Flow{retried()}})
	for _, follow := range []string{"--follow=true", "--follow=false"} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		root := newRoot(nil)
		root.SetOut(write)
		root.SetArgs([]string{"observe", follow, "--admin-socket=" + socket})
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%s: it ends with %v", follow, err)
		}
		write.Close()
	}
}

// What it remembers of IDs is bounded.
func TestRecently(t *testing.T) {
	var r recently
	for round := range 2 {
		for i := range 3 * len(r.ring) {
			if !r.add(fmt.Sprint(round, "-", i)) {
				t.Fatalf("%d was there", i)
			}
		}
	}
	if len(r.known) > len(r.ring)+1 {
		t.Errorf("it remembers %d", len(r.known))
	}
	if r.add(fmt.Sprint("1-", 3*len(r.ring)-1)) {
		t.Error("it has forgotten the last one")
	}
}
