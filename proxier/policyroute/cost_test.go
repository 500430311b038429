package policyroute

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What N rules cost: each route that is looked up for a packet to a Service, and to
// another address.
func TestCostOfRules(t *testing.T) {
	for _, ports := range []int{1, 10, 100, MaxPorts} {
		m := newMachine(t, Options{})
		m.Run("ip", "route", "add", "198.51.100.0/24", "dev", "lo")
		var list []Destination
		for i := range ports {
			list = append(list, tcp(netip.AddrPortFrom(netip.MustParseAddr("10.96.0.10"), uint16(1000+i)).String()), udp("10.96.0.10:53"))
		}
		m.sync(false, list...)
		m.Do(func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			lookup := func(addr [4]byte) time.Duration {
				const n = 5000
				var before, after unix.Rusage
				unix.Getrusage(unix.RUSAGE_THREAD, &before)
				for range n {
					if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: addr, Port: 54}); err != nil {
						t.Fatal(err)
					}
				}
				unix.Getrusage(unix.RUSAGE_THREAD, &after)
				return time.Duration(after.Stime.Nano()+after.Utime.Nano()-before.Stime.Nano()-before.Utime.Nano()) / n
			}
			lookup([4]byte{198, 51, 100, 1})
			t.Logf("%d ports: to a Service %s, elsewhere %s", ports, lookup([4]byte{10, 96, 0, 10}), lookup([4]byte{198, 51, 100, 1}))
		})
	}
}
