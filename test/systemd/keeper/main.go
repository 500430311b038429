// Command keeper is a service whose listeners outlive it in systemd's fd store.
//
//	keeper COUNT
//
// It says how many of them it was handed, under which names, makes those that are missing, and
// stores all of them before it is ready.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/systemd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := systemd.Stored()
	if err != nil {
		return err
	}
	names, fds := map[string]int{}, []int(nil)
	for _, f := range files {
		names[f.Name]++
		fds = append(fds, f.FD)
	}
	fmt.Println("handed:", names, "first port:", port(fds))
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	for len(fds) < count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return err
		}
		fds = append(fds, int(f.Fd()))
		defer f.Close()
	}
	if err := systemd.Store("l", fds...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := systemd.Barrier(ctx); err != nil {
		return err
	}
	if err := systemd.Notify(systemd.Ready, systemd.Status(fmt.Sprintf("%d stored, first port %s", len(fds), port(fds)))); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGHUP)
	if <-end == syscall.SIGHUP {
		return systemd.Remove("l")
	}
	return nil
}

// port is where the lowest of the listeners listens, as only they know.
func port(fds []int) string {
	lowest := "none"
	for _, fd := range fds {
		if addr, err := syscall.Getsockname(fd); err == nil {
			if a, ok := addr.(*syscall.SockaddrInet4); ok && (lowest == "none" || fmt.Sprintf("%05d", a.Port) < lowest) {
				lowest = fmt.Sprintf("%05d", a.Port)
			}
		}
	}
	return lowest
}
