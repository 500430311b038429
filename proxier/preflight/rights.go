package preflight

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities looks at those of this process (capabilities(7)).
func capabilities(_ context.Context, n *node) Result {
	has, err := effective()
	if err != nil {
		return warn(fmt.Sprintf("cannot be told: %v", err), asRoot)
	}
	admin, raw, bind := has(unix.CAP_NET_ADMIN), has(unix.CAP_NET_RAW), has(unix.CAP_NET_BIND_SERVICE)
	const how = "run usher as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)"
	switch {
	case !admin && n.mustUseIPTables():
		return fail("CAP_NET_ADMIN is missing: no rule can be written", how)
	case !admin && n.mayUseIPTables():
		return warn("CAP_NET_ADMIN is missing: no rule can be written, and only Services on addresses of this node or in 127.0.0.0/8 are served", how)
	case !admin:
		return warn("CAP_NET_ADMIN is missing: only Services on addresses of this node or in 127.0.0.0/8 are served", how)
	case !raw && n.mayUseIPTables() && n.legacy():
		return orWarn(n.mustUseIPTables(), "CAP_NET_RAW is missing, which iptables-legacy needs", how)
	case !bind && !n.mustUseIPTables():
		return warn("CAP_NET_BIND_SERVICE is missing: with bind capture, ports below net.ipv4.ip_unprivileged_port_start cannot be served", how)
	}
	var names []string
	for _, c := range []struct {
		name string
		has  bool
	}{{"CAP_NET_ADMIN", admin}, {"CAP_NET_RAW", raw}, {"CAP_NET_BIND_SERVICE", bind}} {
		if c.has {
			names = append(names, c.name)
		}
	}
	return ok(strings.Join(names, ", "))
}

// admin says whether rules can be read and written.
func (n *node) admin() bool {
	has, err := effective()
	return err == nil && has(unix.CAP_NET_ADMIN)
}

// legacy says whether usher would write through iptables-legacy.
func (n *node) legacy() bool {
	for _, b := range n.backends {
		if b.Default && b.Name == "legacy" {
			return true
		}
	}
	return false
}

// effective are the capabilities of the calling thread.
func effective() (has func(capability int) bool, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, err
	}
	return func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }, nil
}
