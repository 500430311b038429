package proxier

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// measureProcess registers what is looked up when somebody reads the metrics.
func (p *Proxier) measureProcess() {
	registry := p.cfg.Registry
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "usher_" + name, Help: help, ConstLabels: labels}, value))
	}
	gauge("build_info", "Always 1; the labels tell which usher this is.",
		prometheus.Labels{"version": p.cfg.Version, "goversion": runtime.Version(), "capture": p.data.capture.String()},
		func() float64 { return 1 })
	gauge("ready", "1 once the first complete state is being served.", nil, func() float64 {
		select {
		case <-p.ready:
			return 1
		default:
			return 0
		}
	})
	gauge("connections_limit", "Connections that there may be in all: --max-connections, or what the open files allow.", nil,
		func() float64 { return float64(p.data.connections.room().Connections) })
	p.measureStaleness()
	for name, file := range map[string]string{"conntrack_entries": "count", "conntrack_limit": "max"} {
		path := "/proc/sys/net/netfilter/nf_conntrack_" + file
		if _, err := number(path); err == nil {
			gauge(name, "The kernel's nf_conntrack_"+file+", in the network namespace of usher.", nil, func() float64 {
				n, _ := number(path)
				return n
			})
		}
	}
}

// age is the time since the contact, since the beginning if there was none.
func age(contact, began time.Time) float64 {
	if contact.IsZero() {
		contact = began
	}
	return max(time.Since(contact), 0).Seconds()
}

// number is what a file of /proc/sys has.
func number(path string) (float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
}
