package proxier

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// full is a Proxier on paper with 10,000 Services, all of which were used, 8,000 live
// connections without sockets, and a full ring.
func full(b *testing.B) *Proxier {
	const services, live = 10000, 8000
	p, _ := onPaper(b, cluster(services))
	p.reconcile(context.Background(), false)
	begin := func(i int) (*listener, *observe.Record) {
		l := p.serving[i%len(p.serving)]
		r := p.data.observer.Open(l.shared.metrics)
		port := l.current.Load().port
		r.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i))
		r.VIP = netip.AddrPortFrom(port.Frontends[0].Addr, 80)
		r.Connect = time.Duration(i) * time.Microsecond
		r.SetBackend(port.Cluster.Endpoints[i%5])
		return l, r
	}
	for i := range p.recent.Size() {
		l, r := begin(i)
		r.End()
		r.Reason = observe.OK
		p.data.observer.Closed(l.shared.metrics, r)
	}
	for i := range live {
		l, r := begin(i)
		c := &connection{listener: l, record: r, there: true, admitted: true, settings: l.current.Load().port.Settings}
		c.relay = relay.New(tcp.New(-1, nil), tcp.New(-1, nil), relay.Settings{Limits: &c.settings.Relay, Clock: p.data.clock}, c)
		p.data.connections.add(c)
	}
	return p
}

// What each view costs on a full node: CPU time, and bytes of JSON.
func BenchmarkViews(b *testing.B) {
	p := full(b)
	views := p.views()
	for _, c := range []struct {
		path string
		q    url.Values
	}{
		{"status", nil}, {"attention", nil}, {"services", nil}, {"traffic", nil}, {"map", nil},
		{"connections", nil}, {"connections", url.Values{"limit": {"8000"}}}, {"connections", url.Values{"service": {"service-00042"}}}, {"endpoints", nil},
	} {
		name := c.path
		if c.q != nil {
			name += "?" + c.q.Encode()
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			cpu, size := cpuTime(), 0
			for b.Loop() {
				answer, err := views["/v1/"+c.path].Show(c.q)
				if err != nil {
					b.Fatal(err)
				}
				text, err := json.Marshal(answer)
				if err != nil {
					b.Fatal(err)
				}
				size = len(observe.EscapeJSON(text))
			}
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(size), "B/answer")
		})
	}
}

// What it costs the reconcile loop to tell what many have drained.
func BenchmarkDrained(b *testing.B) {
	p, _ := onPaper(b, cluster(10000))
	p.reconcile(context.Background(), false)
	list := make(overrides, maxOverrides)
	for i := range list {
		list[i].addr = p.serving[i].current.Load().port.Cluster.Endpoints[0].Addr.Addr()
	}
	for b.Loop() {
		if told := p.drained(list); len(told[0].Endpoints) != 1 {
			b.Fatalf("%+v", told[0])
		}
	}
}

// The CPU time of a connection without followers and with five of them, in rounds that take
// turns. What is in it of clients and backend is the same in both.
func BenchmarkConnectionFollowed(b *testing.B) {
	const perRound, clients, followers = 2000, 4, 5
	socket := filepath.Join(b.TempDir(), "usher.sock")
	s := newScene(b, func(c *Config) { c.OnRecord, c.Registry, c.AdminSocket = nil, prometheus.NewRegistry(), socket })
	s.set(with(service("bench", vip), serveTCP(b, func(c net.Conn) { c.Write([]byte("x")) }))...)
	s.eventually("served", func() error { _, err := get(vip); return err })
	round := func() float64 {
		var all sync.WaitGroup
		before := cpuTime()
		for range clients {
			all.Go(func() {
				for range perRound / clients {
					if _, err := get(vip); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		return float64((cpuTime() - before).Nanoseconds()) / 1000 / perRound
	}
	followed := func() float64 {
		var all sync.WaitGroup
		var conns []net.Conn
		for range followers {
			c, err := net.Dial("unix", socket)
			if err != nil {
				b.Fatal(err)
			}
			fmt.Fprint(c, "GET /v1/flows?follow=true&last=0 HTTP/1.1\r\nHost: usher\r\n\r\n")
			if _, err := c.Read(make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
			all.Go(func() { io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10)) })
		}
		took := round()
		for _, c := range conns {
			c.Close()
		}
		all.Wait()
		return took
	}
	var none, five, ratio []float64
	round()
	for i := 0; b.Loop(); i++ {
		var n, f float64
		if i%2 == 0 {
			n, f = round(), followed()
		} else {
			f, n = followed(), round()
		}
		none, five, ratio = append(none, n), append(five, f), append(ratio, f/n)
	}
	median := func(list []float64) float64 { slices.Sort(list); return list[len(list)/2] }
	b.ReportMetric(median(none), "none-cpu-µs/conn")
	b.ReportMetric(median(five), "five-cpu-µs/conn")
	b.ReportMetric(median(ratio), "five/none")
}
