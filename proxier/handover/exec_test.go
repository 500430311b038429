package handover

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// play runs the test binary in a role, with a soft limit of open files as most
// programs get it, and returns what it tells.
func play(t *testing.T, role string, files []*os.File, env []string, args ...string) report {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `ulimit -Sn 256 && exec "$0" "$@"`, self()}, args...)...)
	cmd.Env = append(env, roleEnv+"="+role)
	cmd.ExtraFiles = files
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, errors.String())
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func TestExecHandsOverThousandsOfFiles(t *testing.T) {
	const n = "10000"
	r := play(t, "leave", nil, nil, n)
	want := report{Err: "<nil>", PID: r.PID, Files: 10000, Taken: 10000, NoFile: r.NoFile,
		Ignored: r.Ignored, Blocked: "0000000000000000", Hups: 1, Pause: r.Pause}
	if got, want := toJSON(t, r), toJSON(t, want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if ignored, err := strconv.ParseUint(r.Ignored, 16, 64); err != nil || ignored&1 == 0 { // of others whoever runs the test may
		t.Errorf("%v: these signals are ignored, without SIGHUP: %s", err, r.Ignored)
	}
	if r.NoFile <= 256 {
		t.Errorf("the limit of open files is %d", r.NoFile)
	}
	t.Logf("%s files and 7 MB of state: %v from before Exec to after Received", n, r.Pause)
}

func toJSON(t *testing.T, r report) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// An Exec that fails leaves the process as it was.
func TestExecThatFails(t *testing.T) {
	files := sockets(t, 300)
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, unix.SIGHUP)
	defer signal.Stop(hups)
	notAProgram := program(t, 0o755, "nothing that a kernel knows\n")
	fill := strings.Repeat("x", 100<<10)

	for _, c := range []struct {
		name   string
		path   string
		env    []string
		parcel Parcel
		want   []string
	}{
		{"wrong format", notAProgram, nil, Parcel{Files: files}, []string{notAProgram, "exec format error", "install the right build"}},
		{"environment", self(), slices.Repeat([]string{"A=" + fill}, 100), Parcel{Files: files}, []string{"argument list too long", "have 102"}},
		{"no file", self(), nil, Parcel{Files: []int{1 << 29}}, []string{"send files, after 0 of 1", "bad file descriptor"}},
		{"state", self(), nil, Parcel{State: make([]byte, maxState+1)}, []string{"at most 268435456"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := openFiles()
			err := Exec(c.path, []string{"usher"}, c.env, c.parcel)
			wantError(t, err, c.want...)
			if n := inheritable(files); n > 0 {
				t.Errorf("%d files are not CLOEXEC", n)
			}
			if after := openFiles(); !slices.Equal(before, after) {
				t.Errorf("files before:\n%v\nafter:\n%v", before, after)
			}
			var now unix.Rlimit
			if unix.Getrlimit(unix.RLIMIT_NOFILE, &now); now != limit {
				t.Errorf("the limit of open files was %v, is %v", limit, now)
			}
			unix.Kill(os.Getpid(), unix.SIGHUP)
			select {
			case <-hups:
			case <-time.After(5 * time.Second):
				t.Error("SIGHUP does not come any more")
			}
		})
	}
}

// program makes an executable file.
func program(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
