package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func sysctlPath(name string) string { return filepath.Join("/proc/sys", name) }

// sysctl reads a number of the kernel.
func sysctl(name string) (int, error) { return number(sysctlPath(name)) }

func number(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

const (
	enoughBacklog = 4096 // the kernel's default since Linux 5.4
	leastBacklog  = 128  // its default before
)

// somaxconn bounds how many connections may wait to be accepted, for each listener.
func somaxconn(context.Context, *node) Result {
	value, err := sysctl("net/core/somaxconn")
	const do = "set net.core.somaxconn to 4096 or more (sysctl -w, and a file in /etc/sysctl.d)"
	switch {
	case err != nil:
		return warn(fmt.Sprintf("cannot be read: %v", err), do)
	case value < enoughBacklog:
		return orWarn(value < leastBacklog, fmt.Sprintf("%d connections may wait for each Service port: in a burst, more are dropped and come a second later", value), do)
	}
	return ok(fmt.Sprintf("%d connections may wait for each Service port", value))
}

// leastTracked is enough for some 30,000 connections, each of which has two entries:
// of the client, and to the endpoint.
const leastTracked = 65536

// conntrack looks at the table of connections that iptables capture depends on. When
// it is full the kernel drops new connections.
func conntrack(_ context.Context, n *node) Result {
	if !n.mayUseIPTables() {
		return ok("not needed with --capture=bind")
	}
	most, err := sysctl("net/netfilter/nf_conntrack_max")
	if errors.Is(err, fs.ErrNotExist) {
		return warn("the kernel tracks no connections yet: the module nf_conntrack is not loaded, or not there", "nothing, if the line iptables is OK: usher's rules load it; else run 'modprobe nf_conntrack'")
	}
	used, err2 := sysctl("net/netfilter/nf_conntrack_count")
	if err := errors.Join(err, err2); err != nil {
		return warn(fmt.Sprintf("cannot be read: %s", oneLine(err)), asRoot)
	}
	return judgeConntrack(used, most)
}

func judgeConntrack(used, most int) Result {
	const do = "raise net.netfilter.nf_conntrack_max, or let usher do it with --conntrack-max-per-core=32768"
	text := fmt.Sprintf("%d of %d entries are used", used, most)
	switch {
	case most == 0: // no limit
		return ok(fmt.Sprintf("%d entries are used, without a limit", used))
	case used >= most:
		return fail(text+": new connections are dropped", do)
	case used > most/10*9:
		return warn(text+": new connections are dropped when it is full", do)
	case most < leastTracked:
		return warn(text+": each connection through usher takes two", do)
	}
	return ok(text)
}
