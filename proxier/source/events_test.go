package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// What every node finds wrong with a Service is one event, not one of each node.
func TestEventsOfEveryNode(t *testing.T) {
	const faults = 12 // more than the correlator takes before it sums up
	f, log := newFakeAPI(t), newLogbook(t)
	f.put("services", apiService("a", "10.96.0.1"))
	about := Ref{"Service", "default", "a"}
	for _, node := range []string{"n1", "n2", "n3"} {
		a, err := NewAPI(Config{REST: f.config(), NodeName: node, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		run(t, a)
		until(t, a, "the Service", has("default/a"))
		before := len(f.requestsFor("events"))
		for range 2 { // mended, and spoiled again
			for i := range faults {
				a.Event(about, "InvalidUsherAnnotation", fmt.Sprintf("annotation %d", i))
			}
		}
		within(t, "all are told", func() bool { return len(f.requestsFor("events")) == before+2*faults })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var messages []string
	for _, e := range f.events {
		messages = append(messages, e.Message)
		if e.InvolvedObject.UID != "uid-a" || e.Count != 1 || e.Source.Host != "n1" {
			t.Errorf("not the first one of the first node: %+v", e)
		}
	}
	slices.Sort(messages)
	if len(messages) != faults || len(slices.Compact(messages)) != faults || strings.Contains(strings.Join(messages, ""), "combined") {
		t.Errorf("%d events: %q", len(messages), messages)
	}
	if len(f.patches) > 0 {
		t.Errorf("counted: %q", f.patches)
	}
	if log.count("warning cannot write Kubernetes Events") > 0 {
		t.Error("that there is one already is told as a failure")
	}
}

// However often a Service is spoiled in a new way, its events are bounded.
func TestEventsOfEveryNodeAreBounded(t *testing.T) {
	f := newFakeAPI(t)
	f.put("services", apiService("a", "10.96.0.1"))
	a := newTestAPI(t, f, newLogbook(t))
	run(t, a)
	until(t, a, "the Service", has("default/a"))
	for i := range 100 {
		a.Event(Ref{"Service", "default", "a"}, "InvalidUsherAnnotation", fmt.Sprint(i))
	}
	a.Event(Ref{Kind: "Node", Name: "n1"}, "PortsExhausted", "the last one")
	within(t, "the last one", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.ContainsFunc(f.events, func(e corev1.Event) bool { return e.Message == "the last one" })
	})
	if n := len(f.requestsFor("events")); n != 25+1 {
		t.Errorf("%d requests", n)
	}
}

func TestEventNames(t *testing.T) {
	about, now := Ref{"Service", "default", "a"}, time.Unix(1, 0)
	name := func(uid types.UID, reason, message string, now time.Time) string {
		return eventName(about, uid, reason, message, now)
	}
	first := name("u", "InvalidUsherAnnotation", "m", now)
	if later := name("u", "InvalidUsherAnnotation", "m", now.Add(1)); later != first {
		t.Errorf("another name later: %s and %s", first, later)
	}
	for what, other := range map[string]string{
		"another message":         name("u", "InvalidUsherAnnotation", "n", now),
		"a Service made anew":     name("v", "InvalidUsherAnnotation", "m", now),
		"what one node tells":     name("u", "PortsExhausted", "m", now),
		"the same a moment later": name("u", "PortsExhausted", "m", now.Add(1)),
	} {
		if other == first {
			t.Errorf("%s has the same name", what)
		}
	}
	if name("u", "PortsExhausted", "m", now) == name("u", "PortsExhausted", "m", now.Add(1)) {
		t.Error("two events of one node have the same name")
	}
	for i := range 100 {
		got := name("u", "InvalidUsherAnnotation", fmt.Sprint(i), now)
		if faults := validation.IsDNS1123Subdomain(got); len(faults) > 0 || !strings.HasPrefix(got, "a.") {
			t.Errorf("%s: %v", got, faults)
		}
	}
}
