package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideEnv tells a test binary that it starts in namespaces of its own.
const insideEnv = "USHER_TEST_INSIDE"

// Main runs the tests of a package in private network and mount namespaces, with an empty
// /run, and ends the process. A process without the right to make them enters a user namespace
// first, where it has it. What a test left behind fails the run.
//
// The functions in first run before that, on the machine's own network: they may build or
// download what the tests need.
//
// A test binary that also serves as a helper process must branch off before it calls Main.
func Main(m *testing.M, first ...func() error) {
	if os.Getenv(insideEnv) == "" {
		for _, f := range first {
			exitOn(f())
		}
		exitOn(reexec())
	}
	exitOn(prepare())
	os.Exit(run(m))
}

// exitOn ends the process if err is not nil.
func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "netns:", err)
		os.Exit(1)
	}
}

// reexec executes this binary anew inside namespaces. It returns only on failure.
func reexec() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Setenv(insideEnv, "1"); err != nil {
		return err
	}

	err = onDisposableThread(func() error { return execInside(self) })
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	return runAsOwnRoot(self)
}

// execInside replaces the process in place: the thread that calls exec takes its namespaces
// along.
func execInside(self string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return fmt.Errorf("exec: %w", unix.Exec(self, os.Args, os.Environ()))
}

// runAsOwnRoot runs the binary as a child that is root in a user namespace of its own, which
// only a new process can enter, and ends the process as the child did.
func runAsOwnRoot(self string) error {
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL, // of the thread that starts it: main, which lives to the end
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("these tests need CAP_SYS_ADMIN and CAP_NET_ADMIN, or user namespaces for ordinary users "+
			"(sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone, "+
			"kernel.apparmor_restrict_unprivileged_userns): %w", err)
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	if err := cmd.Wait(); cmd.ProcessState == nil {
		return err
	}
	os.Exit(exitCode(cmd.ProcessState))
	return nil
}

// exitCode is the code a shell would report: death by a signal counts from 128.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// prepare makes the namespaces just entered fit to work in.
func prepare() error {
	os.Unsetenv(insideEnv) // not so for test binaries that the tests run
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// iptables locks a file in /run, and usher has its socket there.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount an empty /run: %w", err)
	}
	// An ordinary user's path lacks the directories of what only root can use.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy"} { // none is reachable in here
		os.Unsetenv(name)
		os.Unsetenv(strings.ToUpper(name))
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// run runs the tests and then looks for what they left.
func run(m *testing.M) int {
	before := takeInventory()
	code := m.Run()
	if code != 0 {
		return code // a test that failed half-way may well leave something
	}
	if left := before.leaks(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the tests left behind:\n%s\n", strings.Join(left, "\n"))
		return 1
	}
	return 0
}
