package kubeproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// rules are the least of what mode iptables has.
const rules = `*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080
COMMIT
`

func restore(ns *netns.NS, program, text string) {
	cmd := ns.Command(context.Background(), program, "--noflush")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%s: %v: %s", program, err, out))
	}
}

func find(t *testing.T, ns *netns.NS) (found Traces) {
	t.Helper()
	ns.Do(func() { found = Find(context.Background()) })
	if found.Unseen != nil {
		t.Errorf("not all could be seen: %v", found.Unseen)
	}
	return found
}

// remove returns what it tells.
func remove(t *testing.T, ns *netns.NS, found Traces) string {
	t.Helper()
	var told []string
	var err error
	ns.Do(func() { err = found.Remove(context.Background(), func(line string) { told = append(told, line) }) })
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(told, "\n")
}

func TestNothing(t *testing.T) {
	ns := netns.New(t, "node")
	found := find(t, ns)
	if found.Any() || found.Capture() || found.Running != "" || found.Remedy() != "" {
		t.Errorf("found %+v", found)
	}
	if said := found.State(); said != "kube-proxy does not run, and has left nothing" {
		t.Error(said)
	}
	if told := remove(t, ns, found); told != "" {
		t.Errorf("told %q", told)
	}
}

// given rules in both backends and families, when they are removed, then none is left.
func TestRulesOfBothBackends(t *testing.T) {
	ns := netns.New(t, "node")
	var programs []string
	for _, program := range []string{"iptables-nft", "iptables-legacy", "ip6tables-nft"} {
		if _, err := exec.LookPath(program); err == nil {
			programs = append(programs, program)
			restore(ns, program+"-restore", strings.ReplaceAll(rules, "10.96.0.10/32", map[bool]string{true: "fd00::1/128", false: "10.96.0.10/32"}[strings.HasPrefix(program, "ip6")]))
		}
	}
	found := find(t, ns)
	if len(found.Rules) != len(programs) || !found.Capture() {
		t.Fatalf("found %s, want what was written by %v", found, programs)
	}
	if said := found.State(); !strings.Contains(said, "does not seem to run") || found.Remedy() != "run 'usher cleanup --kube-proxy'" {
		t.Errorf("%s: %s", said, found.Remedy())
	}
	if told := remove(t, ns, found); strings.Count(told, "removed 1 chains") != len(programs) {
		t.Errorf("told %q", told)
	}
	if again := find(t, ns); again.Any() {
		t.Errorf("still there: %s", again)
	}
}

// given tables of nftables, when kube-proxy's are removed, then others stay, also one
// of its name in a family that it has none in.
func TestTablesOfNFTables(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip(err)
	}
	ns := netns.New(t, "node")
	ns.Run("nft", `table ip mine { chain c { type nat hook prerouting priority -100; tcp dport 99 redirect to :98; }; }
		table inet kube-proxy { }
		table ip kube-proxy-too { }`)
	before := ns.Run("nft", "list", "ruleset")
	if found := find(t, ns); found.Any() {
		t.Fatalf("tables of others are taken for kube-proxy's: %s", found)
	}
	ns.Run("nft", `table ip kube-proxy { chain services { }
			chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
		}
		table ip6 kube-proxy { comment "rules for kube-proxy"; set s { type ipv6_addr; elements = { fd00::1 }; }
		}`)
	found := find(t, ns)
	if want := []string{"ip kube-proxy", "ip6 kube-proxy"}; !slices.Equal(slices.Sorted(slices.Values(found.Tables)), want) || !found.Capture() {
		t.Fatalf("found %+v, want %v", found, want)
	}
	if told := remove(t, ns, found); strings.Count(told, "removed table") != 2 {
		t.Errorf("told %q", told)
	}
	remove(t, ns, found) // somebody was faster
	if after := ns.Run("nft", "list", "ruleset"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// given the interface of mode ipvs, then it is found and removed. Its kind, dummy,
// does not matter, and is not in every kernel.
func TestInterfaceOfIPVS(t *testing.T) {
	ns := netns.New(t, "node")
	ns.Run("ip", "link", "add", ipvsLink, "type", "bridge")
	found := find(t, ns)
	if !found.IPVS || !found.Capture() || !strings.Contains(found.String(), ipvsLink) {
		t.Fatalf("found %+v", found)
	}
	if told := remove(t, ns, found); !strings.Contains(told, "ipvsadm") {
		t.Errorf("told %q", told)
	}
	remove(t, ns, found)
	if find(t, ns).Any() {
		t.Error("it is still there")
	}
}

// given a thread without the right to look, then that is told, and nothing claimed.
func TestWithoutRights(t *testing.T) {
	ns := netns.New(t, "node")
	restore(ns, "iptables-restore", rules)
	var found Traces
	ns.Do(func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Fatal(err)
		}
		found = Find(context.Background())
	})
	if found.Unseen == nil {
		t.Errorf("found %+v, and nothing was out of sight", found)
	}
}

// answer is a server that gives every client one answer.
func answer(t *testing.T, ns *netns.NS, text string) {
	t.Helper()
	l := ns.Listen("tcp", netip.MustParseAddrPort(healthz))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1024))
			fmt.Fprint(conn, text)
			conn.(*net.TCPConn).CloseWrite()
			conn.Read(make([]byte, 1024))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// Who answers at kube-proxy's address is kube-proxy if it says what kube-proxy says,
// and not who it is.
func TestWhoAnswers(t *testing.T) {
	const body = `{"lastUpdated": "2026-01-01 00:00:00 +0000 UTC","currentTime": "2026-01-01 00:00:00 +0000 UTC"}`
	for name, c := range map[string]struct {
		text string
		runs bool
	}{
		"kube-proxy": {"HTTP/1.1 200 OK\r\n\r\n" + body, true},
		"ill":        {"HTTP/1.1 503 Service Unavailable\r\n\r\n" + body, true},
		"usher":      {"HTTP/1.1 200 OK\r\nServer: usher\r\n\r\n" + body, false},
		"another":    {"HTTP/1.1 404 Not Found\r\n\r\nno such page", false},
		"no HTTP":    {"SSH-2.0\r\n", false},
		"silence":    {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			ns := netns.New(t, "node")
			answer(t, ns, c.text)
			found := find(t, ns)
			if runs := found.Running != ""; runs != c.runs {
				t.Errorf("runs: %v (%q), want %v", runs, found.Running, c.runs)
			}
			if c.runs && (!strings.Contains(found.State(), healthz) || found.Remedy() != Stop) {
				t.Errorf("%s: %s", found.State(), found.Remedy())
			}
		})
	}
}

// given a process with the name of kube-proxy, then it is found if it is in the same
// network namespace, and not if in another one.
func TestProcess(t *testing.T) {
	here, elsewhere := netns.New(t, "here"), netns.New(t, "elsewhere")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "kube-proxy")
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := here.Command(t.Context(), program, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := "process " + strconv.Itoa(cmd.Process.Pid)
	netns.Eventually(t, "it is seen", func() error {
		if got := find(t, here).Running; got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
	if got := find(t, elsewhere).Running; got != "" {
		t.Errorf("found in another namespace: %s", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := find(t, here).Running; got != "" {
		t.Errorf("it has ended, and is found: %s", got)
	}
}
