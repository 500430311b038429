package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// Connections to an endpoint that leaves go on for as long as they like, unless their
// Service sets them a deadline, which it may do at any time.
func TestDrainTimeout(t *testing.T) {
	s := newEchoScene(t)
	first := wishes{"balancer": "first"}
	deadline := wishes{"balancer": "first", "drain-timeout": "1s"}
	// write is a Service with these endpoints.
	write := func(name string, n int, with wishes, pods ...*netns.Pod) {
		s.write(name+".yaml", annotated(s.echoService(name, n, pods...), name, with))
	}
	write("free", 10, first, s.pods...)
	write("bound", 11, deadline, s.pods...)
	u := s.startSeen()
	awaitTalk(t, s.client.NS, vip(10))
	awaitTalk(t, s.client.NS, vip(11))
	free, bound := beginTalk(t, s.client.NS, "10.96.0.10:80"), beginTalk(t, s.client.NS, "10.96.0.11:80")

	write("free", 10, first, s.pods[1])
	left := time.Now()
	write("bound", 11, deadline, s.pods[1])
	bound.awaitReset()
	if lasted := time.Since(left); lasted < time.Second {
		t.Errorf("it was reset after %s, drain-timeout is 1s", lasted)
	}
	if r := bound.toldOf(u); r.Reason != "endpoint_removed" || r.BackendIP != s.pods[0].IPv4.String() {
		t.Errorf("the record says %+v", r)
	}
	free.lasts()
	s.is("free", s.pods[0], "out", "it has left the EndpointSlices; its connections may go on")

	// The deadline counts from now.
	stays := beginTalk(t, s.client.NS, "10.96.0.10:80") // to the other endpoint
	begun := time.Now()
	write("free", 10, deadline, s.pods[1])
	free.awaitReset()
	if lasted := time.Since(begun); lasted < time.Second {
		t.Errorf("it was reset after %s, drain-timeout is 1s from now", lasted)
	}
	stays.lasts()
}

// What becomes of the connections of an endpoint that is not ready is the Service's to
// say, also while it is not ready.
func TestEndpointNotReady(t *testing.T) {
	s := newEchoScene(t)
	write := func(name string, n int, with wishes, ready string) {
		with["balancer"] = "first"
		text := s.echoService(name, n, s.pods...)
		of := "{addresses: [" + s.pods[0].IPv4.String() + "]"
		s.write(name+".yaml", annotated(strings.Replace(text, of, of+", conditions: {"+ready+"}", 1), name, with))
	}
	const well, unwell = "ready: true", "ready: false, serving: false, terminating: false"
	services := []struct {
		name string
		with wishes
	}{
		{"keep", wishes{"drain-timeout": "0s"}}, // it stays, and is not leaving
		{"reset", wishes{"on-endpoint-unready": "reset"}},
		{"drain", wishes{"on-endpoint-unready": "drain", "drain-timeout": "500ms"}},
	}
	for i, c := range services {
		write(c.name, 10+i, c.with, well)
	}
	u := s.start()
	talks := map[string]*talk{}
	for i, c := range services {
		awaitTalk(t, s.client.NS, vip(10+i))
		talks[c.name] = beginTalk(t, s.client.NS, vip(10 + i)[len("http://"):]+":80")
	}
	for i, c := range services {
		write(c.name, 10+i, c.with, unwell)
	}
	for name, reason := range map[string]string{"reset": "endpoint_unhealthy", "drain": "endpoint_removed"} {
		talks[name].awaitReset()
		if r := talks[name].toldOf(u); r.Reason != reason || r.BackendIP != s.pods[0].IPv4.String() {
			t.Errorf("%s: the record says %+v", name, r)
		}
	}
	for i := range services {
		c := beginTalk(t, s.client.NS, vip(10 + i)[len("http://"):]+":80")
		c.Close()
		if r := c.toldOf(u); r.BackendIP != s.pods[1].IPv4.String() {
			t.Errorf("a new connection goes to %s, which is not ready", r.BackendIP)
		}
	}
	talks["keep"].lasts()

	// What leaves is nothing to on-endpoint-unready.
	leaves := beginTalk(t, s.client.NS, "10.96.0.11:80")
	s.write("reset.yaml", annotated(s.echoService("reset", 11, s.pods[0]), "reset", services[1].with))
	netns.Eventually(t, "the first is ready again, and the other one has left", func() error {
		c := beginTalk(t, s.client.NS, "10.96.0.11:80")
		c.Close()
		if r := c.toldOf(u); r.BackendIP != s.pods[0].IPv4.String() {
			return fmt.Errorf("%s is used", r.BackendIP)
		}
		return nil
	})
	leaves.lasts()

	write("keep", 10, wishes{"on-endpoint-unready": "reset"}, unwell)
	talks["keep"].awaitReset()
	if r := talks["keep"].toldOf(u); r.Reason != "endpoint_unhealthy" {
		t.Errorf("the record says %+v", r)
	}
}

// While no endpoint is ready, those are used that are on their way out and still
// serve. They have left only when another one is ready.
func TestDrainTimeoutWhereAllTerminate(t *testing.T) {
	const timeout = time.Second
	s := newEchoScene(t)
	write := func(conditions string, pods ...*netns.Pod) {
		of := "{addresses: [" + s.pods[0].IPv4.String() + "]"
		text := strings.Replace(s.echoService("web", 10, pods...), of, of+", conditions: {"+conditions+"}", 1)
		s.write("web.yaml", annotated(text, "web", wishes{"drain-timeout": timeout.String()}))
	}
	const terminating = "ready: false, serving: true, terminating: true"
	write("ready: true", s.pods[0])
	u := s.startSeen("--sync-period=1s") // all is looked at again, whatever happens
	awaitTalk(t, s.client.NS, vip(10))
	talks := []*talk{beginTalk(t, s.client.NS, "10.96.0.10:80")}
	write(terminating, s.pods[0])
	netns.Eventually(t, "the endpoint terminates", func() error {
		if e := s.status("web", s.pods[0]); e.State != "in" || !strings.Contains(e.Why, "terminating") {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
	begun := time.Now()
	talks = append(talks, beginTalk(t, s.client.NS, "10.96.0.10:80"))
	netns.Eventually(t, "drain-timeout has passed twice", func() error {
		for _, c := range talks {
			c.lasts()
		}
		if !t.Failed() && time.Since(begun) < 2*timeout {
			return errNotYet
		}
		return nil
	})

	write(terminating, s.pods...)
	for _, c := range talks {
		c.awaitReset()
		if r := c.toldOf(u); r.Reason != "endpoint_removed" {
			t.Errorf("the record says %+v", r)
		}
	}
}
