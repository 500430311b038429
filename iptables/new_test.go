package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

// script writes a program that takes the place of one of iptables'.
func script(t *testing.T, dir, name, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
}

// says is the body of a program that tells a version, and refuses to do more.
func says(version, refusal string, status int) string {
	return fmt.Sprintf("if [ \"$1\" = --version ]; then echo '%s'; exit; fi\ncat >/dev/null\necho \"%s\" >&2\nexit %d\n",
		version, refusal, status)
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	const nft, legacy = "v1.8.9 (nf_tables)", "v1.8.9 (legacy)"
	for name, c := range map[string]struct {
		command, restore string // bodies, none if empty
		want             string
	}{
		"program": {want: "install the iptables package"},
		"version": {
			command: says("iptables v1.4.21", "", 0), restore: says("iptables-restore v1.4.21", "", 0),
			want: "older than 1.6.2",
		},
		"restore": {
			command: says("iptables "+nft, "", 0),
			want:    "iptables-restore of the backend of",
		},
		"restore of the same backend": {
			command: says("iptables "+nft, "", 0), restore: says("iptables-restore "+legacy, "", 0),
			want: "(nf_tables) not found",
		},
		"permission": {
			command: says("iptables "+nft, "", 0),
			restore: says("iptables-restore "+nft, "Could not fetch rule set generation id: Permission denied (you must be root)", 4),
			want:    "CAP_NET_ADMIN",
		},
		"nat table": {
			command: says("iptables "+legacy, "", 0),
			restore: says("iptables-restore "+legacy, "can't initialize iptables table 'nat': Table does not exist (do you need to insmod?)", 3),
			want:    "Table does not exist",
		},
		"target": {
			command: says("iptables "+nft, "", 0),
			restore: says("iptables-restore "+nft, "line 3: RULE_APPEND failed (No such file or directory): rule in chain USHER-PROBE", 4),
			want:    `in "-A USHER-PROBE -p tcp -m tcp --dport 1 -m conntrack --ctstate DNAT -j ACCEPT"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.command != "" {
				script(t, dir, "iptables", c.command)
			}
			if c.restore != "" {
				script(t, dir, "iptables-restore", c.restore)
			}
			_, err := New(IPv4, Command(filepath.Join(dir, "iptables")))
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v is not ErrUnavailable with %q", err, c.want)
			}
		})
	}
}

func TestNewWithoutAnythingInThePath(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, family := range []Family{IPv4, IPv6} {
		_, err := New(family)
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), family.command()) {
			t.Errorf("%v: error %v is not ErrUnavailable with the program's name", family, err)
		}
	}
}

// A lock that somebody holds is no reason to do without iptables.
func TestALockIsWorthAnotherTry(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "iptables", says("iptables v1.8.9 (legacy)", "", 0))
	script(t, dir, "iptables-restore", says("iptables-restore v1.8.9 (legacy)",
		"Another app is currently holding the xtables lock; still 1s 0us time ahead to have a chance to grab the lock", 4))
	_, err := New(IPv4, Command(filepath.Join(dir, "iptables")))
	if err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want one that is not ErrUnavailable", err)
	}
}

// The plain name may be pointed to another backend than the command's.
func TestTheBackendsAreNotMixed(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "iptables", says("iptables v1.8.9 (nf_tables)", "", 0))
	script(t, dir, "iptables-restore", says("iptables-restore v1.8.9 (legacy)", "", 0))
	script(t, dir, "iptables-nft-restore", says("iptables-restore v1.8.9 (nf_tables)", "", 0))
	got, err := findPrograms(context.Background(), osExec{}, filepath.Join(dir, "iptables"))
	want := programs{
		command: filepath.Join(dir, "iptables"),
		restore: filepath.Join(dir, "iptables-nft-restore"),
		save:    filepath.Join(dir, "iptables-nft-save"),
		backend: backendNFT,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
}

func TestNewWithoutTheCapability(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		ns := netns.New(t, "node")
		var err error
		ns.Do(func() { // on a thread that nobody uses afterwards
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
				t.Fatal(err)
			}
			_, err = New(v.family, Command(v.command()))
		})
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("error %v is not ErrUnavailable with what to do", err)
		}
	})
}

func TestNewChangesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.addForeign()
		l.sync(l.rules(l.web()...))
		before := l.saved()
		l.open(osExec{})
		if after := l.saved(); after != before || strings.Contains(after, probeChain) {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestAHangingProgramIsKilled(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	script(t, dir, "iptables", says("iptables v1.8.9 (nf_tables)", "", 0))
	script(t, dir, "iptables-restore", `if [ "$1" = --version ]; then echo 'v1.8.9 (nf_tables)'; exit; fi
exec cat "`+dir+`/fifo"
`)
	_, err := New(IPv4, Command(filepath.Join(dir, "iptables")), Timeout(time.Second))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want an exceeded deadline that is not ErrUnavailable", err)
	}
}

func TestPermissionErrorsAreRecognised(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "iptables"), nil, 0o644); err != nil { // not executable
		t.Fatal(err)
	}
	_, err := New(IPv4, Command(filepath.Join(dir, "iptables")))
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v is not ErrUnavailable and a permission error", err)
	}
}
