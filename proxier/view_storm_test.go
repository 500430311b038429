package proxier

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/dial"
)

// beginAll asks for everything at the admin socket at once, again and again, until ctx is
// done. Every error goes to fault.
func (s *shown) beginAll(ctx context.Context, fault func(path string, err error)) (wait func()) {
	var all sync.WaitGroup
	again := func(path string, do func() error) {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil {
					fault(path, err)
				}
			}
		})
	}
	get := func(path string, q url.Values, answer any) error { return admin.Get(ctx, s.socket, path, q, answer) }
	post := func(path string, q url.Values) error { return admin.Post(ctx, s.socket, path, q, new(any)) }

	for path := range s.proxier.views() {
		again(path, func() error {
			q := url.Values{}
			if path == "/v1/explain" {
				q = query("service", "default/web", "from", "127.0.0.1")
			}
			return get(path, q, new(any))
		})
	}
	again("a connection", func() error {
		var now admin.Connections
		err := get("/v1/connections", query("limit", "5"), &now)
		for _, c := range now.Connections {
			if err := get("/v1/connections", query("id", c.ID), new(any)); err != nil {
				fault("a connection", err)
			}
		}
		return err
	})
	again("/v1/flows", func() error { // some follow, and stop
		n := 0
		return admin.Stream(ctx, s.socket, http.MethodGet, "/v1/flows", query("follow", "true"), func([]byte) error {
			if n++; n == 50 {
				return io.EOF
			}
			return nil
		}, nil)
	})
	again("/v1/trace", func() error {
		q := query("duration", fmt.Sprintf("%dms", 1+rand.IntN(50)), "client", "127.0.0.0/8")
		return admin.Stream(ctx, s.socket, http.MethodPost, "/v1/trace", q, func([]byte) error { return nil }, nil)
	})
	again("/v1/kill", func() error {
		return post("/v1/kill", query("service", "default/web", "older", fmt.Sprintf("%dms", 1+rand.IntN(20))))
	})
	again("/v1/drain", func() error { return post("/v1/drain", query("endpoint", "127.0.0.1")) })
	again("/v1/undrain", func() error { return post("/v1/undrain", query("all", "true")) })
	again("/v1/rules/repair", func() error { return post("/v1/rules/repair", nil) })
	return all.Wait
}

// Whatever is asked and done while connections, sessions and Services come and go, and
// while usher ends: nothing hangs, no number shrinks, and nothing is left.
func TestEverybodyAsksForEverythingAtOnce(t *testing.T) {
	dead, quick := freeAddr(t), newBackend(t)
	echo := serveTCP(t, func(c net.Conn) { io.Copy(c, c) })
	rude := serveTCP(t, func(c net.Conn) { c.Read(make([]byte, 1)); c.(*net.TCPConn).SetLinger(0) })
	s := newShown(t, func(c *Config) {
		c.OnRecord = nil
		c.Service.Retry.On |= dial.ResetEarly
		c.Service.Drain.Timeout = 20 * time.Millisecond
		c.Service.Limits.Connections, c.Service.Limits.Wait = 6, 100*time.Millisecond
		c.RingSize = 256
	})
	lasting := slices.Concat(datagramsTo("dns", testVIP(2), packetEcho(t)), with(service("lasting", testVIP(3)), quick.addr))
	phases := [][]any{
		{service("web", vip), end(dead, ofPod("dead")), end(echo, ofPod("echo")), end(rude), end(quick.addr)},
		{service("web", vip), end(echo, ofPod("echo"))},
		{service("web", vip), end(quick.addr), end(rude)},
		{service("web", vip)},
		{},
	}
	s.set(slices.Concat(lasting, phases[0])...)
	s.eventually("served", func() error { _, err := get(testVIP(3)); return err })

	expected := []string{"no Service", "no default/web", "EOF", "may have ended", "names 127.0.0.1", "usher is about to end", admin.ErrUnreachable.Error()}
	ctx, cancel := context.WithCancel(t.Context())
	answered := s.beginAll(ctx, func(path string, err error) {
		if ctx.Err() == nil && !slices.ContainsFunc(expected, func(text string) bool { return strings.Contains(err.Error(), text) }) {
			t.Errorf("%s: %v", path, err)
		}
	})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				c, err := net.DialTimeout("tcp", vip, patience)
				if err != nil {
					continue
				}
				c.SetDeadline(time.Now().Add(patience))
				c.Write([]byte("hello"))
				c.Read(make([]byte, 100))
				if rand.IntN(2) == 0 {
					c.(*net.TCPConn).CloseWrite()
					c.Read(make([]byte, 100))
				}
				c.Close()
			}
		})
		clients.Go(func() {
			for ctx.Err() == nil {
				get(testVIP(3))
				ask(testVIP(2), 100*time.Millisecond)
			}
		})
	}
	before := map[string]admin.Traffic{}
	for i := range 100 {
		s.scene.set(slices.Concat(lasting, phases[i%len(phases)])...)
		for _, p := range view[admin.TrafficNow](s, "/v1/traffic").Ports {
			was := before[p.Service]
			if p.Service != "web" && (p.Opened < was.Opened || p.BytesOut < was.BytesOut || p.BytesIn < was.BytesIn || p.Closed > p.Opened) {
				t.Errorf("after %+v came %+v", was, p)
			}
			before[p.Service] = p.Traffic
		}
	}
	s.stop()
	if left := busy(); left != "" {
		t.Errorf("Run has returned, and left %.6000s", left)
	}
	cancel()
	answered()
	clients.Wait()
	if n := s.proxier.data.connections.count(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	for _, p := range s.proxier.Traffic().Ports {
		if p.Active != 0 || p.Opened != p.Closed || p.Waiting != 0 {
			t.Errorf("at the end: %+v", p)
		}
	}
}

// busy are the goroutines that run a method of a Proxier, or answer somebody.
func busy() (list string) {
	stacks := make([]byte, 4<<20)
	for _, g := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "proxier.(*Proxier)") || strings.Contains(g, "admin.handler") {
			list += "\n" + g
		}
	}
	return list
}
