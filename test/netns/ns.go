package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An NS is one network namespace with its loopback up. It lives until its test ends, or
// longer if a socket or process in it does.
type NS struct {
	Name string // for messages only

	t       testing.TB
	file    *os.File        // keeps the namespace alive
	netlink *netlink.Handle // route socket inside

	starter sync.Once   // starts the thread that begins commands
	starts  chan func() // work for that thread
}

// New makes an empty namespace for the duration of the test.
func New(t testing.TB, name string) *NS {
	t.Helper()
	ns := &NS{Name: name, t: t, starts: make(chan func())}
	if err := onDisposableThread(ns.create); err != nil {
		t.Fatalf("namespace %s: %v", name, err)
	}
	t.Cleanup(func() {
		close(ns.starts)
		ns.netlink.Close()
		ns.file.Close()
	})

	// A generated link-local address is usable only some time after the link came up. The
	// lab assigns its own, ready at once, so that no test waits.
	ns.Sysctl("net/ipv6/conf/default/addr_gen_mode", "1")
	ns.up(ns.link("lo"))
	return ns
}

// create makes the calling thread's namespace a new one and keeps hold of it.
func (ns *NS) create() error {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	ns.file, err = os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	ns.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		ns.file.Close()
		return fmt.Errorf("netlink: %w", err)
	}
	return nil
}

// Do runs f on a thread inside the namespace and waits for it. f may fail the test.
// Goroutines that f starts run outside.
func (ns *NS) Do(f func()) {
	ns.t.Helper()
	returned := false
	err := onDisposableThread(func() error {
		if err := ns.enter(); err != nil {
			return err
		}
		f()
		returned = true
		return nil
	})
	if err != nil {
		ns.t.Fatal(err)
	}
	if !returned {
		runtime.Goexit() // f ended its goroutine by t.FailNow or t.SkipNow: so does its caller
	}
}

// enter moves the calling thread, which must be locked, into the namespace.
func (ns *NS) enter() error {
	if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", ns.Name, err)
	}
	return nil
}

// Netlink is a route socket inside the namespace. It is closed with the namespace.
func (ns *NS) Netlink() *netlink.Handle { return ns.netlink }

// Sysctl writes a kernel setting of the namespace, named by its path below /proc/sys, such as
// net/ipv4/ip_forward.
func (ns *NS) Sysctl(name, value string) {
	ns.t.Helper()
	var err error
	ns.Do(func() { err = os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
	if err != nil {
		ns.t.Fatalf("namespace %s: %v", ns.Name, err)
	}
}

// onDisposableThread runs f on a thread of its own that ends with it, so that whatever f does
// to the thread is undone. It returns nil if f ended by [runtime.Goexit].
func onDisposableThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
		err = f()
	}()
	<-done
	return err
}

// The main thread cannot die, and /proc/self describes it. A goroutine that happened to run
// on it and changed its namespace would leave it there, so it is reserved for main.
func init() { runtime.LockOSThread() }
