package handover

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// elf is the header of a program for another machine (s390x).
const elf = "\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16\x00\x00\x00\x01" +
	"\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x40\x00\x38\x00\x01\x00\x00\x00\x00\x00\x00"

// A program that is none is refused by Try and by Exec, with what to do.
func TestBadPrograms(t *testing.T) {
	const script = "#!/bin/sh\nexit 0\n"
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	written := program(t, 0o755, script)
	writer, err := os.OpenFile(written, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	others := program(t, 0o755, script)
	if err := os.Chown(others, 4242, 0); err != nil {
		others = "" // in a user namespace there is no other user
	}
	group := program(t, 0o775, script)
	if err := os.Chown(group, -1, 4242); err != nil {
		group = ""
	}
	for _, c := range []struct {
		name, path string
		want       []string
	}{
		{"relative", "usher", []string{"usher: ", "has to be absolute"}},
		{"missing", filepath.Join(dir, "usher"), []string{filepath.Join(dir, "usher"), "no such file", "install the program again"}},
		{"dangling link", link, []string{link, "no such file"}},
		{"directory", dir, []string{dir + " is a directory"}},
		{"device", os.DevNull, []string{"/dev/null is a device"}},
		{"not executable", program(t, 0o644, script), []string{"is not executable (mode 0644): chmod 0755 /"}},
		{"everybody writes", program(t, 0o777, script), []string{"may be written by everybody (mode 0777): chmod 0755 /"}},
		{"a group writes", group, []string{"may be written by group 4242 (mode 0775)"}},
		{"another user's", others, []string{"is owned by user 4242", "chown root /"}},
		{"text", program(t, 0o755, "usher\n"), []string{"exec format error", "no program for linux/"}},
		{"empty", program(t, 0o755, ""), []string{"exec format error"}},
		{"another machine", program(t, 0o755, elf), []string{"exec format error", "install the right build"}},
		{"no interpreter", program(t, 0o755, "#!/nowhere\n"), []string{"no such file", "the interpreter or loader"}},
		{"being written", written, []string{"text file busy", "install programs by rename(2)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.path == "" {
				t.Skip("needs another user to give files to")
			}
			err := Try(t.Context(), c.path, []string{"usher"}, nil, Parcel{}, time.Minute)
			wantError(t, err, c.want...)
			err = Exec(c.path, []string{"usher"}, nil, Parcel{})
			wantError(t, err, c.want...)
			noChildren(t)
		})
	}
}

// One that has nothing to do with usher runs, and is told from one that has.
func TestProgramThatIsNotUsher(t *testing.T) {
	path := program(t, 0o755, "#!/bin/sh\necho hello >&2\n")
	err := Try(t.Context(), path, []string{"usher"}, nil, Parcel{}, time.Minute)
	wantError(t, err, "trial of "+path, "is it usher", "its last words: hello")
}
