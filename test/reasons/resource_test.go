package reasons

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

// What usher lacks itself.
var resourceScenarios = []scenario{
	{
		reason: observe.OutOfFiles, how: "the limit of open files (RLIMIT_NOFILE) is reached", attempts: "res_fds(EMFILE)",
		want: one("res_fds proxy connect EMFILE none none rst none"),
		change: func(c *proxier.Config) {
			c.Service.Retry.Total = 300 * time.Millisecond
			policy(func(next balancer.Picker, r balancer.Request) (balancer.Pick, error) {
				var limit unix.Rlimit
				if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
					return balancer.Pick{}, err
				}
				limit.Cur = 0 // until the scenario is over
				if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
					return balancer.Pick{}, err
				}
				return next.Pick(r)
			})(c)
		},
		run: func(l *lab) *observe.Record {
			var limit unix.Rlimit
			l.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			restore := func() { l.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }
			l.Cleanup(restore)
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			defer restore()
			return l.turnedAway()
		},
	},
	{
		reason: observe.OutOfPorts, how: "ip_local_port_range has one port, and somebody has it", attempts: "res_ports(EADDRNOTAVAIL)",
		want: one("res_ports proxy connect EADDRNOTAVAIL none none rst none"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			taken, own := l.free("0.0.0.0"), l.free("0.0.0.0")
			ln, err := net.Listen("tcp", taken.String())
			l.must(err)
			l.Cleanup(func() { ln.Close() })
			l.sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("%d %[1]d", taken.Port()))
			return l.turnedAwayFrom(vip, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(own.Port())}})
		},
	},
	{
		// Memory for sockets cannot be used up without taking it from the whole machine.
		reason: observe.OutOfMemory, how: "FAKE: a policy says what the kernel would",
		want: one("res_mem proxy pick ENOMEM none none rst none"),
		change: policy(func(balancer.Picker, balancer.Request) (balancer.Pick, error) {
			return balancer.Pick{}, os.NewSyscallError("socket", unix.ENOMEM)
		}),
		run: func(l *lab) *observe.Record { return l.refusedBy(tcpService(), ready(l.endpoint(echo))...) },
	},
}
