package node

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// privileges are those of a process in /proc/PID/status, which all of its threads share.
func privileges(t *testing.T, pid int) string {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("the threads of usher: %v, %v", threads, err)
	}
	var all []string
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		lines := regexp.MustCompile(`(?m)^(Cap\w+|NoNewPrivs):.*\n`).FindAllString(string(text), -1)
		all = append(all, strings.Join(lines, ""))
	}
	if all = slices.Compact(all); len(all) != 1 {
		t.Fatalf("the threads of usher have different privileges:\n%s", strings.Join(all, "\n"))
	}
	return all[0]
}

// Started by root, usher keeps three capabilities, and everything goes on working.
func TestPrivileges(t *testing.T) {
	golden, err := os.ReadFile("testdata/privileges.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, capture := range []string{"iptables by nft", "iptables by legacy", "bind"} {
		t.Run(capture, func(t *testing.T) {
			kind, backend, ok := strings.Cut(capture, " by ")
			if ok {
				netns.UseIPTables(t, backend)
			}
			s := newScene(t)
			answer(t, s.pods[0].NS, "dns", s.pods[0].AddrPort4(8080))
			log := filepath.Join(t.TempDir(), "records")
			socket := filepath.Join(t.TempDir(), "usher.sock")
			s.write("node.yaml", nodeManifest)
			s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
			u := usher.Start(t, s.NS, s.args("--capture="+kind, "--node-name=node-1", "--log-file="+log, "--admin-socket="+socket)...)
			if got := privileges(t, u.PID()); got != string(golden) {
				t.Errorf("usher has the privileges\n%swant\n%s", got, golden)
			}

			// What is made only now: listeners, on ports below 1024 for capture bind, rules,
			// transparent sockets, a file for records.
			s.write("late.yaml", manifest("late", 11, 30081, s.pods[0].IPv4)+"---"+udpManifest("dns", 12, 30082, s.pods[0].IPv4))
			served(t, s.routed.NS, vip(11))
			ask(t, s.client.NS, "10.96.0.12:80").awaits("dns")
			if err := os.Rename(log, log+".1"); err != nil {
				t.Fatal(err)
			}
			netns.Eventually(t, "a record in another file", func() error {
				if _, err := s.routed.Get(vip(11)); err != nil {
					t.Fatal(err)
				}
				return hasRecord(log)
			})
			records, err := os.ReadFile(log)
			if want := `"source":"client"`; kind == "iptables" && !strings.Contains(string(records), want) {
				t.Errorf("the endpoint did not see the client's address: %v, %s", err, records)
			}
			var status admin.Status
			if err := admin.Get(t.Context(), socket, "/v1/status", nil, &status); err != nil || !status.Ready {
				t.Errorf("the admin socket says %+v, %v", status, err)
			}
			if code := u.Stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if kind == "iptables" && strings.Contains(s.rules(), "USHER") {
				t.Error("rules are left")
			}
		})
	}
}

func TestKeptPrivileges(t *testing.T) {
	s := newScene(t)
	u := s.start("--keep-privileges")
	if own := privileges(t, os.Getpid()); privileges(t, u.PID()) != own {
		t.Errorf("usher has the privileges\n%swas started with\n%s", privileges(t, u.PID()), own)
	}
}

// The group usher is let in, though to give it a file takes CAP_CHOWN.
func TestGroupOfAdminSocket(t *testing.T) {
	if text, err := os.ReadFile("/proc/self/setgroups"); err != nil || strings.TrimSpace(string(text)) != "allow" {
		t.Skip("in this user namespace no group can be joined")
	}
	const gid = 4711
	groups := filepath.Join(t.TempDir(), "group")
	if err := os.WriteFile(groups, []byte("root:x:0:\nusher:x:"+strconv.Itoa(gid)+":\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(groups, "/etc/group", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/group", unix.MNT_DETACH) })
	s := newScene(t)
	socket := filepath.Join(t.TempDir(), "usher.sock")
	usher.Start(t, s.NS, s.args("--admin-socket="+socket)...)
	netns.Eventually(t, "the group has the socket", func() error {
		info, err := os.Stat(socket)
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Gid != gid || info.Mode().Perm() != 0o660 {
			return fmt.Errorf("it is of group %d, %v", owner.Gid, info.Mode())
		}
		return nil
	})
}

// A root without CAP_DAC_OVERRIDE does not get at the files of others; usher says so at once.
func TestFilesOfOthers(t *testing.T) {
	s := newScene(t)
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Skip(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u := s.start("--log-file=" + filepath.Join(dir, "records"))
	u.WaitLog("access " + dir + ": permission denied: usher has given up the right to use what others own")
	resp, err := s.HTTPClient().Get("http://127.0.0.1:10256/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("usher is not ready: %s", resp.Status)
	}
}
