package tune

import (
	"errors"
	"io/fs"
	"time"

	"github.com/sirupsen/logrus"
)

// Conntrack are sysctls below net.netfilter.nf_conntrack_*. A zero field leaves
// the kernel's value alone. Times are set in whole seconds.
type Conntrack struct {
	// MaxPerCore and Min bound the number of tracked connections: Min, or
	// MaxPerCore for each CPU if that is more, but of these at most 1048576. Min
	// alone does nothing. The hash table grows with it, to a quarter.
	MaxPerCore, Min int

	TCPEstablished time.Duration // tcp_timeout_established
	TCPCloseWait   time.Duration // tcp_timeout_close_wait
	TCPBeLiberal   bool          // tcp_be_liberal: no packet is INVALID for its sequence number
	UDP            time.Duration // udp_timeout: before a reply
	UDPStream      time.Duration // udp_timeout_stream: of a flow both ways
}

// maxTracked bounds the memory of the table on machines with many CPUs.
const maxTracked = 1 << 20

// Apply sets the sysctls. What cannot be set is told to log, by name.
func (c Conntrack) Apply(log logrus.FieldLogger) { c.apply(realKernel(), log) }

func (c Conntrack) apply(k kernel, log logrus.FieldLogger) {
	for _, s := range c.sysctls(k) {
		changed, err := k.set(s.file, s.value)
		log := log.WithField("value", s.value)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			log.Warnf("cannot set %s: it does not exist; is the module nf_conntrack loaded?", s.name)
		case err != nil:
			log.WithError(err).Warnf("cannot set %s; usher goes on with the kernel's value", s.name)
		case changed:
			log.Infof("set %s", s.name)
		}
	}
}

// sysctl is one value of the kernel.
type sysctl struct {
	name  string // for people
	file  string
	value int
}

func (c Conntrack) sysctls(k kernel) (all []sysctl) {
	add := func(name string, value int) {
		if value > 0 {
			all = append(all, sysctl{"net.netfilter.nf_conntrack_" + name, k.proc + "/net/netfilter/nf_conntrack_" + name, value})
		}
	}
	limit := c.max(k.cpus())
	add("max", limit)
	if hash := k.sys + "/module/nf_conntrack/parameters/hashsize"; limit > 0 && k.get(hash) < limit/4 {
		all = append(all, sysctl{"nf_conntrack's hashsize", hash, limit / 4})
	}
	add("tcp_timeout_established", seconds(c.TCPEstablished))
	add("tcp_timeout_close_wait", seconds(c.TCPCloseWait))
	if c.TCPBeLiberal {
		add("tcp_be_liberal", 1)
	}
	add("udp_timeout", seconds(c.UDP))
	add("udp_timeout_stream", seconds(c.UDPStream))
	return all
}

// max is the number of tracked connections for so many CPUs, 0 to leave it.
func (c Conntrack) max(cpus int) int {
	if c.MaxPerCore <= 0 {
		return 0
	}
	return max(c.Min, min(c.MaxPerCore*cpus, maxTracked))
}

func seconds(d time.Duration) int { return int(d / time.Second) }
