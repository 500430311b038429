package cli

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/systemd"
)

// Whatever lies in systemd's store that nobody can go on with: usher starts without it, says
// why, and leaves nothing of it open.
func TestBrokenStore(t *testing.T) {
	posted := func(state string) systemd.File {
		socket := socketFD(t)
		defer unix.Close(socket)
		fd, err := handover.Post(handover.Parcel{State: []byte(state), Files: []int{socket}})
		if err != nil {
			t.Fatal(err)
		}
		return systemd.File{Name: parcelName, FD: fd}
	}
	table := func(state string) systemd.File {
		fd, err := handover.Write([]byte(state))
		if err != nil {
			t.Fatal(err)
		}
		return systemd.File{Name: "t", FD: fd}
	}
	kept := func() systemd.File {
		fd := socketFD(t)
		cookie, err := handover.Cookie(fd)
		if err != nil {
			t.Fatal(err)
		}
		return systemd.File{Name: systemd.KeptName(cookie), FD: fd}
	}
	file := func(name string) systemd.File {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return systemd.File{Name: name, FD: fd}
	}
	emptied := posted("")
	again, err := unix.FcntlInt(uintptr(emptied.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := handover.Open(emptied.FD); err == nil {
		closeFiles([]systemd.File{{FD: p.Files[0]}})
	}
	emptied.FD = again
	for _, c := range []struct {
		name  string
		files []systemd.File
		says  string
	}{
		{"nothing", nil, ""},
		{"another program's parcel", []systemd.File{posted("{}")}, "they end"},
		{"a parcel that was opened", []systemd.File{emptied}, "the peer has ended"},
		{"no parcel", []systemd.File{file(parcelName)}, "they end"},
		{"sockets without a table", []systemd.File{kept(), kept()}, "with the 2 sockets"},
		{"a table that cannot be read", []systemd.File{kept(), file("T")}, "cannot read what sockets"},
		{"another format's table", []systemd.File{table("other"), kept()}, "cannot be read"},
		{"both", []systemd.File{posted("?"), table("other"), kept(), file("else")}, "with the 2 sockets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said bytes.Buffer
			log := logrus.New()
			log.SetOutput(&said)
			cfg := proxier.Config{Log: log, Capture: "auto"}
			cfg.Service.Balancer = "round-robin"
			s := &fdStore{log: log}
			if found := s.find(c.files, &cfg); found != nil {
				t.Error("it goes on with that")
				found.Close()
			}
			if !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
				t.Errorf("it says %q, want %q", said.String(), c.says)
			}
			for _, f := range c.files { // what is no socket is closed beside
				for until := time.Now().Add(5 * time.Second); isOpen(f.FD); runtime.Gosched() {
					if time.Now().After(until) {
						t.Fatalf("file %s is left open", f.Name)
					}
				}
			}
		})
	}
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// socketFD is a socket that nobody else owns.
func socketFD(t *testing.T) int {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
