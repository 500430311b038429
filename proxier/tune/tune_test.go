package tune

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// everything is every setting at once.
var everything = Conntrack{
	MaxPerCore: 1000, Min: 10,
	TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour, TCPBeLiberal: true,
	UDP: 30 * time.Second, UDPStream: 300 * time.Second,
}

// fake is a kernel made of files, with four CPUs.
func fake(t *testing.T, values map[string]string) kernel {
	t.Helper()
	folder := t.TempDir()
	k := kernel{proc: folder + "/proc", sys: folder + "/sys"}
	values["sys/devices/system/cpu/online"] = "0-2,7\n"
	for name, value := range values {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// untouched are the values that a fake starts with.
func untouched() map[string]string {
	values := map[string]string{"sys/module/nf_conntrack/parameters/hashsize": "8"}
	for _, name := range []string{"max", "tcp_timeout_established", "tcp_timeout_close_wait", "tcp_be_liberal", "udp_timeout", "udp_timeout_stream"} {
		values["proc/net/netfilter/nf_conntrack_"+name] = "7\n"
	}
	return values
}

func (k kernel) conntrack(name string) int {
	return k.get(k.proc + "/net/netfilter/nf_conntrack_" + name)
}

func TestConntrackSetsWhatWasAskedFor(t *testing.T) {
	k := fake(t, untouched())
	log, told := logtest.NewNullLogger()
	everything.apply(k, log)
	for name, want := range map[string]int{
		"max": 4000, "tcp_timeout_established": 86400, "tcp_timeout_close_wait": 3600,
		"tcp_be_liberal": 1, "udp_timeout": 30, "udp_timeout_stream": 300,
	} {
		if got := k.conntrack(name); got != want {
			t.Errorf("nf_conntrack_%s is %d, want %d", name, got, want)
		}
	}
	if got := k.get(k.sys + "/module/nf_conntrack/parameters/hashsize"); got != 1000 {
		t.Errorf("hashsize is %d, want a quarter of 4000", got)
	}
	if len(told.Entries) != 7 {
		t.Errorf("want one line for each of 7 values, got %d", len(told.Entries))
	}

	told.Reset()
	everything.apply(k, log)
	if len(told.Entries) != 0 {
		t.Errorf("a second time nothing changes, yet: %s", told.LastEntry().Message)
	}
}

func TestConntrackLeavesAloneWhatIsZero(t *testing.T) {
	k := fake(t, untouched())
	log, told := logtest.NewNullLogger()
	Conntrack{Min: 4096}.apply(k, log) // Min alone: no limit was asked for
	for name := range untouched() {
		if got := k.get(strings.Replace(k.proc, "/proc", "/"+name, 1)); got != 7 && got != 8 {
			t.Errorf("%s was changed to %d", name, got)
		}
	}
	if len(told.Entries) != 0 {
		t.Errorf("told: %s", told.LastEntry().Message)
	}
}

func TestConntrackMax(t *testing.T) {
	for _, c := range []struct{ perCore, min, cpus, want int }{
		{0, 131072, 8, 0},
		{32768, 131072, 1, 131072},
		{32768, 131072, 8, 262144},
		{32768, 131072, 64, 1048576},    // bounded
		{1 << 24, 131072, 200, 1048576}, // however large
		{32768, 4 << 20, 1, 4 << 20},    // but what was named outright stands
	} {
		if got := (Conntrack{MaxPerCore: c.perCore, Min: c.min}).max(c.cpus); got != c.want {
			t.Errorf("max-per-core=%d min=%d on %d CPUs: %d, want %d", c.perCore, c.min, c.cpus, got, c.want)
		}
	}
}

func TestConntrackNeverShrinksTheHashTable(t *testing.T) {
	values := untouched()
	values["sys/module/nf_conntrack/parameters/hashsize"] = "65536"
	k := fake(t, values)
	log, _ := logtest.NewNullLogger()
	everything.apply(k, log)
	if got := k.get(k.sys + "/module/nf_conntrack/parameters/hashsize"); got != 65536 {
		t.Errorf("hashsize went from 65536 to %d", got)
	}
}

func TestConntrackWithoutTheModuleIsAWarningForEach(t *testing.T) {
	k := fake(t, map[string]string{})
	log, told := logtest.NewNullLogger()
	everything.apply(k, log)
	if len(told.Entries) != 7 {
		t.Fatalf("want 7 warnings, got %d", len(told.Entries))
	}
	for _, e := range told.AllEntries() {
		if e.Level != logrus.WarnLevel || !strings.Contains(e.Message, "nf_conntrack") {
			t.Errorf("want a warning that names the sysctl, got %s %q", e.Level, e.Message)
		}
	}
	if _, err := os.Stat(k.proc); err == nil {
		t.Error("files were made where the kernel has none")
	}
}

// The kernel itself: of these sysctls, all but max belong to the namespace.
func TestConntrackInTheKernel(t *testing.T) {
	ns := netns.New(t, "node")
	ns.Run("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT") // loads conntrack
	log, told := logtest.NewNullLogger()
	asked := everything
	asked.MaxPerCore = 0
	ns.Do(func() {
		k := realKernel()
		if k.conntrack("tcp_be_liberal") != 0 {
			t.Fatal("a new namespace is liberal already: this proves nothing")
		}
		asked.Apply(log)
		for name, want := range map[string]int{"tcp_timeout_established": 86400, "tcp_timeout_close_wait": 3600, "tcp_be_liberal": 1, "udp_timeout_stream": 300} {
			if got := k.conntrack(name); got != want {
				t.Errorf("nf_conntrack_%s is %d, want %d", name, got, want)
			}
		}
	})
	for _, e := range told.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			t.Errorf("%s: %v", e.Message, e.Data)
		}
	}
}

func TestOOMScoreOfThisProcess(t *testing.T) {
	const file = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	start, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err != nil {
		t.Fatal(err)
	}
	want := min(start+1, 1000) // upwards is allowed to everybody
	log, told := logtest.NewNullLogger()
	OOMScore(want, log)
	defer OOMScore(start, log)
	if got := realKernel().get(file); got != want || len(told.Entries) != 0 {
		t.Errorf("oom_score_adj is %d, want %d; told %d lines", got, want, len(told.Entries))
	}
}

func TestOOMScoreWithoutTheRightIsOneLine(t *testing.T) {
	before := realKernel().get("/proc/self/oom_score_adj")
	log, told := logtest.NewNullLogger()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends without its capability
		err := dropSysResource()
		if err == nil {
			OOMScore(-1000, log)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := realKernel().get("/proc/self/oom_score_adj"); got != before {
		t.Errorf("oom_score_adj went from %d to %d", before, got)
	}
	if len(told.Entries) != 1 || told.LastEntry().Level != logrus.InfoLevel {
		t.Errorf("want one line at level info, got %d", len(told.Entries))
	}
}

// dropSysResource takes CAP_SYS_RESOURCE from the calling thread.
func dropSysResource() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	return unix.Capset(&header, &data[0])
}

func TestOOMScoreThatCannotBeSetIsAWarning(t *testing.T) {
	log, told := logtest.NewNullLogger()
	oomScore(t.TempDir()+"/none", 1, log)
	if len(told.Entries) != 1 || told.LastEntry().Level != logrus.WarnLevel {
		t.Errorf("want one warning, got %d lines", len(told.Entries))
	}
}

func TestCountCPUs(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "0-2,7": 4, "0,2,4-5": 4, "": 0, "x": 0, "3-1": 0} {
		if got := countCPUs(list); got != want {
			t.Errorf("countCPUs(%q) = %d, want %d", list, got, want)
		}
	}
}
