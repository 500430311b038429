package netns

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// given a namespace, when a function runs inside, then it sees the loopback and nothing else,
// and the caller's thread stays where it was.
func TestDoRunsInside(t *testing.T) {
	outside := namespaceOfThread(t)
	ns := New(t, "ns")
	ns.Do(func() {
		if namespaceOfThread(t) == outside {
			t.Error("still outside")
		}
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
			t.Errorf("links: %v, %v; want lo, up", links, err)
		}
	})
	if namespaceOfThread(t) != outside {
		t.Error("the caller was moved")
	}
}

func namespaceOfThread(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// given a function that ends its test early, when it runs inside, then the caller ends too.
func TestDoPassesTheEndOn(t *testing.T) {
	ns := New(t, "ns")
	t.Run("skips", func(t *testing.T) {
		ns.Do(func() { t.SkipNow() })
		t.Error("the caller went on")
	})
}

// given a setting of one namespace, when another one changes its own, then it keeps its value.
func TestSysctlStaysInside(t *testing.T) {
	a, b := New(t, "a"), New(t, "b")
	a.Sysctl("net/ipv4/ip_forward", "1")
	b.Sysctl("net/ipv4/ip_forward", "0")
	if got := a.Run("cat", "/proc/sys/net/ipv4/ip_forward"); got != "1\n" {
		t.Errorf("net/ipv4/ip_forward is %q, want 1", got)
	}
}

// given a program, when it runs, then it is inside.
func TestCommandRunsInside(t *testing.T) {
	ns := New(t, "ns")
	var inside string
	ns.Do(func() { inside = namespaceOfThread(t) })
	if got := ns.Run("readlink", "/proc/self/ns/net"); got != inside+"\n" {
		t.Errorf("the program is in %s, want %s", got, inside)
	}
}

// given a program with a child of its own, when the context or the test ends, then both do.
func TestCommandEndsWithItsChildren(t *testing.T) {
	t.Run("by its test", func(t *testing.T) {
		var pids []int
		t.Run("test", func(t *testing.T) { _, pids = startFamily(t, context.Background()) })
		awaitGone(t, pids)
	})
	t.Run("by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		c, pids := startFamily(t, ctx)
		cancel()
		if err := c.Wait(); err == nil {
			t.Error("the program ended well")
		}
		awaitGone(t, pids)
	})
}

// startFamily starts a shell that has a child, and returns the numbers of both.
func startFamily(t *testing.T, ctx context.Context) (*Cmd, []int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pids")
	c := New(t, "ns").Command(ctx, "sh", "-c", `sleep 1000 & echo $$ $! >"$0.new"; mv "$0.new" "$0"; wait`, file)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	Eventually(t, "child", func() error {
		text, err := os.ReadFile(file)
		for _, word := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(word)
			pids = append(pids, pid)
		}
		return err
	})
	return c, pids
}

func awaitGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		Eventually(t, "end of the process", func() error {
			if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
				return os.ErrExist
			}
			return nil
		})
	}
}

// given a name instead of an address, when it is dialled, then that is refused: the look-up
// would leave the namespace.
func TestDialTakesNoNames(t *testing.T) {
	if conn, err := New(t, "ns").Dial("tcp", "localhost:80"); err == nil {
		conn.Close()
		t.Error("a name was dialled")
	}
}

// given the private surroundings of the tests, then iptables has its lock directory, in both
// families, whoever runs the tests.
func TestIptablesWorks(t *testing.T) {
	ns := New(t, "ns")
	for _, iptables := range []string{"iptables", "ip6tables"} {
		ns.Run(iptables, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "1", "-j", "REDIRECT", "--to-ports", "2")
		if rules := ns.Run(iptables, "-t", "nat", "-S", "OUTPUT"); !strings.Contains(rules, "--to-ports 2") {
			t.Errorf("%s lost the rule: %s", iptables, rules)
		}
	}
	if err := unix.Access("/run", unix.W_OK); err != nil {
		t.Errorf("/run: %v", err)
	}
}

// given something that stays behind, when the inventory is compared, then it is named; and no
// longer once it is gone.
func TestLeaksAreFound(t *testing.T) {
	before := takeInventory()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() { <-stop }()
	child, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}

	found := strings.Join(before.left(), "\n")
	for _, want := range []string{"TestLeaksAreFound.func", "pipe:", "a child process"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q is not among the leaks:\n%s", want, found)
		}
	}

	close(stop)
	r.Close()
	w.Close()
	child.Kill()
	child.Wait()
	Eventually(t, "no leaks", func() error {
		if left := before.left(); len(left) > 0 {
			return errLeft(left)
		}
		return nil
	})
}

type errLeft []string

func (e errLeft) Error() string { return strings.Join(e, "\n") }
