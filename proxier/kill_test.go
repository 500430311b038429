package proxier

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

func (s *scene) kill(t *testing.T, query string) (admin.Killed, error) {
	t.Helper()
	return does[admin.Killed](t, s.proxier.killConnections, query)
}

// hold opens a connection that lasts.
func (s *scene) hold(vip string) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", vip)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// holding is a backend that greets and keeps what it has.
func holding(t *testing.T) netip.AddrPort {
	return serveTCP(t, func(c net.Conn) { c.Write([]byte("hi")); io.Copy(io.Discard, c) })
}

func TestConnectionsAreKilled(t *testing.T) {
	a, b, other := holding(t), holding(t), testVIP(3)
	s := newScene(t)
	s.set(service("web", vip), end(a, ofPod("web-1")), service("api", other), slice("api", b))
	<-s.proxier.Ready()
	for _, c := range []struct{ query string }{
		{"backend=" + a.String()}, {"pod=default/web-1"}, {"service=default/web"}, {"service=web&namespace=default&client=127.0.0.0/8"}, {"older=1ns&backend=" + a.String()},
	} {
		web, api := s.hold(vip), s.hold(other)
		would, err := s.kill(t, c.query+"&dry-run=true")
		if err != nil || !would.DryRun || len(would.Killed) != 1 || would.Killed[0].Service != "web" || would.Killed[0].Client != web.LocalAddr().String() {
			t.Fatalf("%s: %+v, %v", c.query, would, err)
		}
		if n := s.proxier.data.connections.count(); n != 2 {
			t.Errorf("%s: %d connections are left after a dry run", c.query, n)
		}
		done, err := s.kill(t, c.query)
		if err != nil || len(done.Killed) != 1 || done.Killed[0].ID != would.Killed[0].ID || len(done.Gone)+len(done.Ending)+done.More != 0 {
			t.Errorf("%s: %+v, %v", c.query, done, err)
		}
		if r := s.record(); r.Reason != observe.AdminKilled || r.Reason.Code() != "KA" || r.ID() != done.Killed[0].ID {
			t.Errorf("%s: it ended with %s", c.query, r.Reason)
		}
		if _, err := web.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client gets %v", c.query, err)
		}
		if done, err := s.kill(t, "id="+done.Killed[0].ID); err != nil || len(done.Gone) != 1 || len(done.Killed) != 0 {
			t.Errorf("%s: once more: %+v, %v", c.query, done, err)
		}
		if done, err := s.kill(t, "all=true"); err != nil || len(done.Killed) != 1 || done.Killed[0].Service != "api" {
			t.Errorf("%s: all that is left: %+v, %v", c.query, done, err)
		}
		api.Close()
		s.record()
	}
}

// One that still looks for an endpoint can be ended as well.
func TestAConnectionWithoutEndpointIsKilled(t *testing.T) {
	s := newScene(t, func(c *Config) { c.Service.Retry.Timeout, c.Service.Retry.Total = patience, patience })
	s.set(with(service("web", vip), blackhole(t))...)
	<-s.proxier.Ready()
	c, err := net.Dial("tcp", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.eventually("it is killed", func() error {
		if done, err := s.kill(t, "service=default/web"); err != nil || len(done.Killed) != 1 {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	if r := s.record(); r.Reason != observe.AdminKilled {
		t.Errorf("it ended with %s", r.Reason)
	}
}

// Whatever ends a connection first, everyone is told of once, and rightly.
func TestKillingRacesWithTheEnd(t *testing.T) {
	s := newScene(t)
	s.set(with(service("web", vip), holding(t))...)
	<-s.proxier.Ready()
	killed, gone := 0, 0
	for i, deadline := 0, time.Now().Add(patience/5); (i < 60 || killed == 0 || gone == 0) && time.Now().Before(deadline); i++ {
		c := s.hold(vip)
		switch i % 3 {
		case 0:
			go c.Close()
		case 1:
			c.Close()
		default:
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
		done, err := s.kill(t, "all=true")
		if err != nil || len(done.Ending) != 0 {
			t.Fatalf("%+v, %v", done, err)
		}
		reason := s.record().Reason
		for _, k := range done.Killed {
			if killed++; reason != observe.AdminKilled {
				t.Errorf("%s was killed, they say, but ended with %s", k.ID, reason)
			}
		}
		for _, k := range done.Gone {
			if gone++; k.Reason != string(reason) {
				t.Errorf("%s ended with %s, they say, but with %s", k.ID, k.Reason, reason)
			}
		}
	}
	if killed == 0 || gone == 0 {
		t.Skip("one of the two was always first")
	}
	t.Logf("%d were killed, %d gone before", killed, gone)
}

func TestClientsByMappedAddresses(t *testing.T) {
	for text, want := range map[string]string{"::ffff:10.0.0.9": "10.0.0.9/32", "::ffff:10.0.0.0/112": "10.0.0.0/16", "::ffff:0:0/96": "0.0.0.0/0", "fd00::/8": "fd00::/8"} {
		if v, err := victimsOf(url.Values{"client": {text}}); err != nil || v.filter.Client.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, v.filter.Client, err, want)
		}
	}
}

func TestWhatCannotBeKilled(t *testing.T) {
	s := newScene(t)
	for query, want := range map[string]string{
		"":                           "to end all connections say all=true",
		"dry-run=true":               "to end all connections say all=true",
		"all=true&service=a/b":       "goes with nothing",
		"all=yes":                    "want true or false",
		"older=1":                    "want a duration",
		"older=-1h":                  "want a duration",
		"backend=web":                "want IP:PORT or IP",
		"pod=web-1":                  "want NAMESPACE/NAME",
		"client=me":                  "want an address or a CIDR",
		"client=fe80::1%25lo":        "want an address or a CIDR",
		"service=a/b&namespace=c":    "want NAME or NAMESPACE/NAME",
		"service=a/b&dry-run=please": "want true or false",
	} {
		_, err := s.kill(t, query)
		var answer *admin.Error
		if !errors.As(err, &answer) || answer.Status != 400 || !strings.Contains(answer.Message, want) {
			t.Errorf("kill %s: %v, want %s", query, err, want)
		}
	}
}
