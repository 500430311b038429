package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// shortSessions has sessions end soon by themselves.
var shortSessions = []string{"--udp-idle-timeout=1s", "--udp-stream-timeout=1s"}

// told waits for the one record of a client's session that ended for a reason.
func told(u *usher.Process, c *asker, reason string) usher.Record {
	c.t.Helper()
	found := u.Records(1, withReason(c, reason))
	if len(found) != 1 {
		c.t.Fatalf("%s: %d records say %s", c, len(found), reason)
	}
	return found[0]
}

// toldOnce wants one record for each session that the endpoints have seen, once
// usher has ended.
func toldOnce(u *usher.Process, clients []*asker, servers ...*answerer) {
	for _, c := range clients {
		c.t.Helper()
		sessions := 0
		for _, s := range servers {
			sessions += len(s.from(c.name))
		}
		if found := u.Records(0, ofSession(c)); len(found) != sessions {
			c.t.Errorf("%s: there are %d records of %d sessions: %+v", c, len(found), sessions, found)
		}
	}
}

// What the record of a session says.
func TestUDPRecordOfASession(t *testing.T) {
	s := newScene(t)
	server := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start(shortSessions...)
	c := ask(t, s.client.NS, udpVIP(10))
	for range 3 {
		c.gets("pod-1")
	}
	r := told(u, c, "idle")
	in := int64(len(fmt.Sprintf("%s 1", c.name)) * 3)
	want := usher.Record{
		ID: r.ID, Event: "udp.close", Reason: "idle", Level: "info", Proto: "udp", NS: "default", Service: "web", Port: "udp",
		ClientIP: s.client.IPv4.String(), ClientPort: r.ClientPort, VIP: "10.96.0.10", VIPPort: 80, VIPKind: "cluster",
		BackendIP: s.pods[0].IPv4.String(), BackendPort: 8080, Source: "node", Set: "cluster",
		BytesIn: in, BytesOut: in + 3*int64(len("pod-1 ")), DgramsIn: 3, DgramsOut: 3,
		FirstReplyMS: r.FirstReplyMS, DurationMS: r.DurationMS,
	}
	if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want) {
		t.Errorf("the record is\n%+v, want\n%+v", r, want)
	}
	if r.FirstReplyMS <= 0 || r.FirstReplyMS > 1000 || r.DurationMS < 1000 || r.DurationMS > 5000 {
		t.Errorf("the times of the record are wrong: %+v", r)
	}
	c.gets("pod-1") // a session of its own
	u.Records(2, withReason(c, "idle"))
	u.Stop()
	toldOnce(u, []*asker{c}, server)
}

// Each way in which a session ends.
func TestUDPRecordsSayWhySessionsEnd(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	one := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	two := answer(t, s.pods[1].NS, "pod-2", s.pods[1].AddrPort4(8080))
	mute := answer(t, s.routed.NS, "mute", s.routed.AddrPort4(8080), func(a *answerer) { a.mute = true })
	s.write("moved.yaml", udpManifest("moved", 10, 30080, s.pods[0].IPv4))
	s.write("removed.yaml", udpManifest("removed", 11, 30081, s.pods[0].IPv4))
	s.write("small.yaml", annotated(udpManifest("small", 12, 30082, s.pods[0].IPv4), "small", map[string]string{"udp-max-sessions": "4"}))
	s.write("mute.yaml", udpManifest("mute", 13, 30083, s.routed.IPv4))
	u := s.start("--udp-idle-timeout=1s") // sessions that were answered stay

	moved, removed, silent := ask(t, s.client.NS, udpVIP(10)), ask(t, s.client.NS, udpVIP(11)), ask(t, s.client.NS, udpVIP(13))
	moved.gets("pod-1")
	removed.gets("pod-1")
	silent.hearsNothing()

	s.write("moved.yaml", udpManifest("moved", 10, 30080, s.pods[1].IPv4))
	moved.awaits("pod-2")
	if r := told(u, moved, "endpoint_removed"); r.BackendIP != s.pods[0].IPv4.String() || r.DgramsOut == 0 {
		t.Errorf("the record of a session whose endpoint was removed: %+v", r)
	}

	s.remove("removed.yaml")
	if r := told(u, removed, "service_removed"); r.DgramsIn != 1 || r.DgramsOut != 1 || r.Level != "info" {
		t.Errorf("the record of a session whose Service was removed: %+v", r)
	}

	if r := told(u, silent, "idle"); r.DgramsIn != 1 || r.DgramsOut != 0 || r.BytesOut != 0 || r.FirstReplyMS != -1 {
		t.Errorf("the record of a session that was never answered: %+v", r)
	}

	// Four sessions, of which one network has two.
	small := []*asker{ask(t, s.client.NS, udpVIP(12)), ask(t, s.client.NS, udpVIP(12)), ask(t, s.client.NS, udpVIP(12))}
	for _, c := range small {
		c.gets("pod-1")
	}
	if r := told(u, small[0], "evicted"); r.DgramsIn != 1 || r.DgramsOut != 1 {
		t.Errorf("the record of an evicted session: %+v", r)
	}

	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, c := range []*asker{moved, small[1], small[2]} {
		if r := told(u, c, "shutdown"); r.DgramsOut == 0 || r.Level != "info" {
			t.Errorf("the record of a session that usher ended: %+v", r)
		}
	}
	toldOnce(u, append(small, moved, removed, silent), one, two, mute)
}

// An endpoint where nobody listens costs a client nothing while there is another,
// and the records name it.
func TestUDPRecordsOfRefusals(t *testing.T) {
	s := newScene(t)
	one := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("both.yaml", udpManifest("both", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4))
	s.write("alone.yaml", udpManifest("alone", 11, 30081, s.routed.IPv4))
	u := s.start(shortSessions...)
	var clients []*asker
	for range 4 {
		c := ask(t, s.client.NS, udpVIP(10))
		c.gets("pod-1")
		clients = append(clients, c)
	}
	refused := u.Records(1, func(r usher.Record) bool { return r.Service == "both" && r.Reason == "backend_refused" })
	if r := refused[0]; r.Errno != "ECONNREFUSED" || r.Level != "warning" || r.BackendIP != s.pods[1].IPv4.String() || r.DgramsIn != 1 || r.DgramsOut != 0 {
		t.Errorf("the record of a refusal: %+v", r)
	}
	second := u.Records(1, func(r usher.Record) bool { return r.ClientPort == refused[0].ClientPort && r.Reason == "idle" })[0]
	want := []usher.Attempt{{Backend: s.pods[1].AddrPort4(8080).String(), Result: "backend_refused", Errno: "ECONNREFUSED"}}
	if second.BackendIP != s.pods[0].IPv4.String() || !slices.Equal(second.Attempts, want) {
		t.Errorf("the record of the session after a refusal: %+v", second)
	}

	alone := ask(t, s.client.NS, udpVIP(11))
	if who, err := alone.once(silence); err == nil {
		t.Errorf("%s, which is answered by %s", alone, who)
	}
	told(u, alone, "backend_refused")
	for _, c := range clients {
		told(u, c, "idle")
	}
	u.Stop()
	for _, r := range u.Records(0, ofSession(alone)) {
		if r.DgramsIn == 0 {
			t.Errorf("a session without any datagram: %+v", r)
		}
	}
	for _, c := range clients {
		if n := len(one.from(c.name)); n != 1 {
			t.Errorf("%s has %d sessions", c, n)
		}
	}
}
