package observe

import (
	"bytes"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestNumbersOfAPort(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry(), NewLog(nil), nil)
	o := New("node-a", NewLog(nil), m, nil, nil)
	web, dns := m.Port("shop", "web", "http", "tcp"), m.Port("shop", "dns", "", "udp")
	m.Port("shop", "unused", "", "tcp")
	o.Open(web)
	done := web.Waits()
	for _, reason := range []Reason{OK, RetriesExhausted} {
		r := o.Open(web)
		r.Attempts = []Attempt{{Result: BackendRefused}, {Result: OK}}
		if reason != OK {
			r.Attempts = []Attempt{{Result: BackendRefused}, {Result: Superseded}, {Result: ConnectTimeout}}
		}
		r.End()
		r.Reason, r.BytesIn, r.BytesOut = reason, 3, 5
		o.Closed(web, r)
	}
	dns.Datagrams(2, 20, 1, 10)
	dns.Dropped(DropQueue, 3)
	dns.Dropped(DropRefused, 1)

	got := m.Used()
	want := []Numbers{
		{PortMetrics: dns, BytesIn: 20, BytesOut: 10, DatagramsIn: 2, DatagramsOut: 1, Dropped: 4},
		{PortMetrics: web, Active: 1, Opened: 3, Closed: 2, Trouble: 1, Failed: 3, Retries: 3, Retried: 1, Waiting: 1, BytesIn: 6, BytesOut: 10},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	done()
	if n := web.Numbers(); n.Waiting != 0 {
		t.Errorf("nobody waits: %+v", n)
	}
}

func TestLinesAreTheSameForWhoFollows(t *testing.T) {
	var o Observer
	defer o.Follow()()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 3000 { // more than are held
				r := ended(uint64(i))
				r.by = &o
				r.PortName = "\u009b"
				want := appendJSON([]byte("before"), r)
				for range 2 {
					if got := AppendJSON([]byte("before"), r); !bytes.Equal(got, want) {
						t.Errorf("got %s, want %s", got, want)
						return
					}
				}
			}
		})
	}
	all.Wait()
	r := ended(1)
	r.by = &Observer{}
	r.Duration = time.Second
	if text := string(AppendJSON(nil, r)); !strings.Contains(text, `"ts":"`+r.Start.Add(time.Second).Format(time.RFC3339Nano)+`"`) || !strings.HasSuffix(text, "}\n") {
		t.Errorf("got %s", text)
	}
}

func TestWhatIsLiveIsFilteredToo(t *testing.T) {
	port := &ServicePort{"shop", "web", "http", "tcp"}
	client := netip.MustParseAddr("::ffff:10.0.0.9")
	for query, want := range map[string]bool{
		"": true, "namespace=shop": true, "namespace=other": false, "service=shop/web": true, "service=cart": false,
		"client=10.0.0.0/24": true, "client=10.0.1.0/24": false, "pod=web-1": true, "pod=shop/web-2": true, "pod=web-3": false,
		"reason=ok": true, "errors=true": true, // of which nothing is known yet
	} {
		q, _ := url.ParseQuery(query)
		f, err := ParseFilter(q, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := f.WantsLive(port, client, "shop/web-1", "shop/web-2"); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestHowFullARingIs(t *testing.T) {
	for n, want := range map[int]int{0: 0, 3: 3, 8: 8, 20: 8} {
		if got := filled(8, n).Held(); got != want {
			t.Errorf("after %d it holds %d, want %d", n, got, want)
		}
	}
}
