package conformance

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Usher is usher.
type Usher struct {
	Source  string // flag that says where it reads its objects
	Capture string // iptables or bind; empty: iptables
}

// Reference tells that it is the one under test.
func (Usher) Reference() bool { return false }

// Start runs usher on a node.
func (u Usher) Start(t testing.TB, node *netns.Node, o Options) Process {
	t.Helper()
	args := []string{
		u.Source, "--node-name=" + node.Name, "--capture=" + cmp.Or(u.Capture, "iptables"),
		"--drain-timeout=1s", "--sync-period=" + o.SyncPeriod.String(),
		"--allow-external-ips=" + externalCIDRv4.String() + "," + externalCIDRv6.String(),
		"--nodeport-addresses=" + strings.Join(usherNodePorts(o), ","),
		fmt.Sprintf("--iptables-localhost-nodeports=%t", o.LoopbackNodePorts),
	}
	return usher.Start(t, node.NS, slices.DeleteFunc(args, unknownFlag)...)
}

// usherNodePorts are the words for --nodeport-addresses.
func usherNodePorts(o Options) []string {
	words := o.NodePortAddresses
	if len(words) == 0 {
		return []string{"all"} // with loopback
	}
	if o.LoopbackNodePorts {
		words = append(slices.Clone(words), "localhost")
	}
	return words
}

// unknownFlag tells whether usher has not got a flag yet. The cases about it fail.
func unknownFlag(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	return !strings.Contains(usherHelp(), name+" ")
}

var usherHelp = sync.OnceValue(func() string {
	out, _ := exec.Command(os.Getenv("USHER_TEST_BINARY"), "run", "--help").CombinedOutput()
	return string(out)
})
