package iptables

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

// manyServices are redirects of n Services with consecutive ClusterIPs, of which
// every tenth has a NodePort as well.
func (v variant) manyServices(n int) (redirects []Redirect) {
	addr := v.vip(0)
	for i := range n {
		addr = addr.Next()
		d := Redirect{Name: fmt.Sprintf("team-%d/service-%d:http", i%50, i), Protocol: TCP, Addr: addr, Port: 80, To: uint16(11000 + i)}
		redirects = append(redirects, d)
		if i%10 == 0 {
			d.Addr, d.Port = netip.Addr{}, uint16(30000+i/10)
			redirects = append(redirects, d)
		}
	}
	return redirects
}

func BenchmarkRender(b *testing.B) {
	v := variant{IPv4, "nft"}
	all := v.rules(v.manyServices(10_000)...)
	b.Run("everything", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			changes(nil, layout(v.family, all))
		}
	})
	b.Run("one Service more", func(b *testing.B) {
		b.ReportAllocs()
		r := &renderer{}
		before := r.layout(v.family, all)
		more := all
		n := len(all.Redirects)
		for i := 0; b.Loop(); i++ {
			more.Redirects = append(all.Redirects[:n:n], Redirect{Name: "x/y:z", Protocol: TCP, Addr: v.vip(7), Port: uint16(81 + i%1000), To: 40000})
			if err := more.validate(v.family); err != nil {
				b.Fatal(err)
			}
			after := r.layout(v.family, more)
			if changes(before, after) == "" {
				b.Fatal("nothing to write")
			}
			before = after
		}
	})
}

// Trees lead every client where the flat chains lead it.
func TestTreesInTheKernel(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		routed := l.AddPod(netns.Routed, "routed") // takes the branch of DNAT
		l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		l.serveOriginal(l.NS, webPort)
		l.serveOriginal(l.NS, elsePort)
		redirects := l.manyServices(1000)
		var served []Redirect
		for i := range redirects {
			redirects[i].To = uint16(11002 + 2*i) // where nobody listens; each a block of its own
			if i%275 < 2 {                        // a ClusterIP and its NodePort
				redirects[i].To = webPort
				served = append(served, redirects[i])
			}
		}
		r := l.rules(redirects...)
		r.Open = []uint16{elsePort}
		l.sync(r)
		l.iptables("-P", "INPUT", "DROP")
		l.iptables("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
		if v.family == IPv6 {
			l.iptables("-A", "INPUT", "-p", "icmpv6", "-j", "ACCEPT")
		}
		for _, d := range served {
			to := netip.AddrPortFrom(d.Addr, d.Port)
			if !d.Addr.IsValid() {
				to = netip.AddrPortFrom(l.nodeAddr(), d.Port)
			}
			for who, from := range map[string]*netns.NS{"the node": l.NS, "a bridged pod": bridged.NS, "a routed pod": routed.NS, "a machine outside": l.Client} {
				l.expectAnswer(who, from, to)
			}
		}
		l.expectRefused("a machine outside", l.Client, netip.AddrPortFrom(l.vip(2), 80)) // whose listener is gone
		l.expectRefused("a machine outside", l.Client, netip.AddrPortFrom(l.nodeAddr(), webPort))
		l.expectAnswer("a machine outside", l.Client, netip.AddrPortFrom(l.nodeAddr(), elsePort)) // between listener ports
	})
}

// The deepest tree is one that the kernel takes.
func TestTheKernelTakesTheDeepestTree(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		if v.family == IPv6 {
			t.Skip("the addresses are IPv4")
		}
		l := newLab(t, v)
		r := l.rules(populations["each splits off one"](nil, 12_000)...)
		l.sync(r)
		l.expectDifferent(r)
		expectSameRedirects(t, l.installed(), r.Redirects)
	})
}

// BenchmarkSync writes one Service more or less, as many times as there are of
// them; and all of them.
func BenchmarkSync(b *testing.B) {
	for _, v := range []variant{{IPv4, "nft"}, {IPv6, "nft"}, {IPv4, "legacy"}, {IPv6, "legacy"}} {
		node := netns.NewNode(b, "node")
		all := v.rules(v.manyServices(10_000)...)
		less := all
		less.Redirects = all.Redirects[:len(all.Redirects)-1]
		node.Do(func() {
			table, err := New(v.family, Command(v.command()))
			if err != nil {
				b.Fatal(err)
			}
			do := func(r Rules) {
				if err := table.Sync(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
			b.Run(v.command()+"/all of 10000", func(b *testing.B) {
				for b.Loop() {
					do(Rules{})
					do(all)
				}
			})
			b.Run(v.command()+"/one of 10000", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					do([]Rules{less, all}[i%2])
				}
			})
			b.Run(v.command()+"/none of 10000", func(b *testing.B) {
				for b.Loop() {
					do(less)
				}
			})
			b.Run(v.command()+"/verify 10000", func(b *testing.B) {
				for b.Loop() {
					if different, err := table.Verify(context.Background(), less); err != nil || len(different) > 0 {
						b.Fatal(different, err)
					}
				}
			})
		})
	}
}

// BenchmarkConnect opens connections through the last of 10,000 Services, and
// through one that is alone. On virtual cables nearly all of the kernel's work is
// done, and counted, in the threads that send: cpu-ns/op is the figure to compare.
func BenchmarkConnect(b *testing.B) {
	for _, v := range []variant{{IPv4, "nft"}, {IPv4, "legacy"}, {IPv6, "nft"}, {IPv6, "legacy"}} {
		node := netns.NewNode(b, "node")
		node.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		l := node.Listen(v.network(TCP), v.wildcard(30_999))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.Copy(io.Discard, c) // until the client resets it
				c.Close()
			}
		}()
		for _, n := range []int{1, 10_000, 1, 10_000} {
			redirects := v.manyServices(n)
			last := &redirects[len(redirects)-1]
			if n == 1 {
				last = &redirects[0] // the other one is a NodePort
			}
			last.To = 30_999
			var err error
			node.Do(func() {
				var table *Table
				if table, err = New(v.family, Command(v.command())); err == nil {
					err = table.Sync(context.Background(), v.rules(redirects...))
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			to := netip.AddrPortFrom(last.Addr, last.Port)
			b.Run(fmt.Sprintf("%s/last of %d", v.command(), n), func(b *testing.B) {
				before := cpuTime()
				for b.Loop() {
					c, err := node.Client.Dial(v.network(TCP), to.String())
					if err != nil {
						b.Fatal(err)
					}
					c.(*net.TCPConn).SetLinger(0)
					c.Close()
				}
				b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
			})
		}
		l.Close()
		<-done
	}
}

// cpuTime is what this process has taken so far.
func cpuTime() time.Duration {
	var usage unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
