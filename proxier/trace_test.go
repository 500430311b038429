package proxier

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// trace runs a trace until the test ends, or end is called. It is under way when it
// returns.
func (s *scene) trace(query string) (events <-chan admin.TraceEvent, end func() error) {
	s.t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	told, ended := make(chan admin.TraceEvent, 1000), make(chan error, 1)
	go func() {
		ended <- s.proxier.trace(ctx, q, func(line []byte) error {
			var e admin.TraceEvent
			err := json.Unmarshal(line, &e)
			told <- e
			return err
		})
	}()
	s.t.Cleanup(cancel)
	if e := <-told; e.Event != admin.TraceBegin {
		s.t.Fatalf("it begins with %+v", e)
	}
	return told, func() error { cancel(); return <-ended }
}

// untilClosed are the events of one connection.
func untilClosed(events <-chan admin.TraceEvent) (list []admin.TraceEvent, names string) {
	for e := range events {
		list, names = append(list, e), names+" "+e.Event
		if e.Event == "closed" {
			break
		}
	}
	return list, strings.TrimSpace(names)
}

func TestAConnectionIsTraced(t *testing.T) {
	dead, b := freeAddr(t), newBackend(t)
	s := newScene(t)
	s.set(service("web", vip), end(dead, ofPod("web-0")), end(b.addr, ofPod("web-1")), service("api", testVIP(3)), slice("api", b.addr))
	<-s.proxier.Ready()
	s.served(testVIP(3))
	events, stop := s.trace("service=default/web&client=127.0.0.0/8")
	if _, err := get(testVIP(3)); err != nil { // another Service
		t.Fatal(err)
	}
	s.record()
	refused := false
	for range 4 { // some begin with the dead one
		if _, err := get(vip); err != nil {
			t.Fatalf("%v: %s", err, s.record().Sentence())
		}
		r := s.record()
		list, names := untilClosed(events)
		attempts := strings.Repeat("attempt result ", len(r.Attempts))
		if want := "accepted arrived limits " + attempts + "connected first_reply "; !strings.HasPrefix(names, want) || !strings.Contains(names, " backend_close ") {
			t.Errorf("the events are %s", names)
		}
		if !slices.IsSortedFunc(list[:5], func(a, b admin.TraceEvent) int { return int(1000 * (a.Ms - b.Ms)) }) {
			t.Errorf("the times are %+v", list)
		}
		for _, e := range list {
			if e.ID != r.ID() || e.Service != "web" || e.Client != r.Client.String() {
				t.Errorf("an event of %s is %+v", r.ID(), e)
			}
		}
		last := list[len(list)-1]
		if last.Result != string(r.Reason) || !strings.Contains(last.Text, r.Sentence()) {
			t.Errorf("the end is %+v", last)
		}
		for _, e := range list {
			mine := e.Event == "result" && e.Endpoint == dead.String()
			refused = refused || mine
			if mine && (e.Errno != "ECONNREFUSED" || e.Result != "backend_refused" || e.Pod != "default/web-0") {
				t.Errorf("the attempt that failed is %+v", e)
			}
		}
	}
	if !refused {
		t.Error("no attempt has failed")
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if s.proxier.data.tracer.active.Load() != nil {
		t.Error("something is still traced")
	}
}

func TestATraceEndsByItself(t *testing.T) {
	s := newScene(t)
	events, _ := s.trace("duration=10ms")
	if e := <-events; e.Event != admin.TraceEnd {
		t.Errorf("it ends with %+v", e)
	}
}

// What has happened in its time is told, also by a reader who is behind; what happens later
// is not kept for anybody.
func TestNothingOfATraceIsLeftBehind(t *testing.T) {
	s := newScene(t)
	var names []string
	var of *traced
	err := s.proxier.trace(t.Context(), query("duration", "20ms"), func(line []byte) error {
		var e admin.TraceEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		switch names = append(names, e.Event); len(names) {
		case 1:
			one := (*s.proxier.data.tracer.active.Load())[0]
			of = &traced{by: []*trace{one}}
			for range 100 {
				of.tell("attempt", "")
			}
		case 2:
			time.Sleep(30 * time.Millisecond) // by then it is over
		}
		return nil
	})
	if err != nil || len(names) != 102 || names[101] != admin.TraceEnd {
		t.Errorf("%d events, %v: %v", len(names), err, names)
	}
	of.tell("closed", "")
	if n := len(of.by[0].events); n > 0 {
		t.Errorf("%d events wait for nobody", n)
	}
}

func TestOnlySoManyTraces(t *testing.T) {
	s := newScene(t)
	for i := range maxTraces {
		_, stop := s.trace("")
		if i == 0 {
			defer func() {
				stop()
				s.trace("") // there is room again
			}()
		}
	}
	var answer *admin.Error
	if err := s.proxier.trace(t.Context(), nil, nil); !errors.As(err, &answer) || answer.Status != 429 {
		t.Errorf("one more: %v", err)
	}
}

// Whoever reads too slowly is told how much was lost, and holds up nobody.
func TestEventsThatNobodyReads(t *testing.T) {
	var tracer tracer
	one, end, err := tracer.Subscribe(observe.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	of := &traced{by: []*trace{one}}
	for range traceQueue + 3 {
		of.tell("accepted", "")
	}
	for range traceQueue {
		if e := <-one.events; e.Lost != 0 {
			t.Fatalf("%+v", e)
		}
	}
	of.tell("closed", "")
	if e := <-one.events; e.Lost != 3 {
		t.Errorf("%d were lost", e.Lost)
	}
}

func TestWhatCannotBeTraced(t *testing.T) {
	s := newScene(t)
	for _, query := range []string{"client=me", "duration=0s", "duration=2h", "duration=x", "service=a/b&namespace=c"} {
		q, _ := url.ParseQuery(query)
		var answer *admin.Error
		if err := s.proxier.trace(t.Context(), q, nil); !errors.As(err, &answer) || answer.Status != 400 {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// BenchmarkUntraced is what a connection pays while nobody traces.
func BenchmarkUntraced(b *testing.B) {
	var tracer tracer
	c := &connection{}
	for b.Loop() {
		if tracer.of(c) != nil {
			b.Fatal("traced")
		}
	}
}
