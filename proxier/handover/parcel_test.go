package handover

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// forge returns a parcel's state as written, changed.
func forge(files int, state string, change func(b []byte) []byte) []byte {
	return change(append(header(files, []byte(state)), state...))
}

func resum(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[checked-4:], crc32.Checksum(b[checked:], castagnoli))
	return b
}

var forgeries = []struct {
	name string
	file []byte
	want string
}{
	{"empty", nil, "no state of usher's"},
	{"short", []byte(magic), "no state of usher's"},
	{"magic", forge(0, "state", func(b []byte) []byte { b[0] = 'x'; return b }), "no state of usher's"},
	{"version", forge(0, "state", func(b []byte) []byte { b[8] = 2; return b }), "version 2, known is 1"},
	{"a bit of the state", forge(0, "state", func(b []byte) []byte { b[headerSize] ^= 1; return b }), "the checksum"},
	{"a bit of the header", forge(0, "state", func(b []byte) []byte { b[16] ^= 1; return b }), "the checksum"},
	{"cut", forge(0, "state", func(b []byte) []byte { return b[:len(b)-1] }), "4 bytes of 5"},
	{"grown", forge(0, "state", func(b []byte) []byte { return append(b, 0) }), "6 bytes of 5"},
	{"files", forge(0, "", func(b []byte) []byte { b[23] = 1; return resum(b) }), "at most 1048576 are possible"},
	{"size", forge(0, "", func(b []byte) []byte { b[31] = 255; return resum(b) }), "at most 268435456 are possible"},
	{"more files than come", forge(3, "state", resum), "after 0 of 3: the peer has ended"},
}

func TestForgedState(t *testing.T) {
	for _, c := range forgeries {
		t.Run(c.name, func(t *testing.T) {
			memfd, err := newMemfd()
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(memfd)
			if err := write(memfd, c.file); err != nil {
				t.Fatal(err)
			}
			receives(t, memfd, "not in a sealed memfd")
			if err := seal(memfd); err != nil {
				t.Fatal(err)
			}
			receives(t, memfd, c.want)
		})
	}
}

// receives lets this process, and one that is started with it, receive a memfd and no
// file.
func receives(t *testing.T, memfd int, want string) {
	t.Helper()
	a, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	if err := sendRights(a, []int{memfd}); err != nil {
		t.Fatal(err)
	}
	a.Close()
	f := os.NewFile(uintptr(theirs), "forged")
	defer f.Close()
	r := play(t, "forged", []*os.File{f}, []string{execEnv + "=" + strconv.Itoa(firstFile)})
	wantError(t, errorText(r.Err), "hand-over by exec", want)
	if len(r.Kept) > 0 {
		t.Errorf("files that are left: %v", r.Kept)
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }

func TestEnvironmentThatMeansNothing(t *testing.T) {
	for value, want := range map[string]string{"": "not the number of a file", "x": "not the number", "2": "not the number", "-1": "not the number",
		"99999999999999999999": "not the number", "77": "bad file descriptor"} {
		r := play(t, "forged", nil, []string{execEnv + "=" + value})
		wantError(t, errorText(r.Err), execEnv, want, "unset it")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r := play(t, "forged", []*os.File{null}, []string{execEnv + "=3"})
	wantError(t, errorText(r.Err), "on non-socket")
	if r := play(t, "forged", nil, nil); r.Err != "<nil>" {
		t.Error(r.Err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range forgeries {
		f.Add(c.file)
	}
	f.Add(forge(7, "state", resum))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, state, err := decode(b)
		if err == nil && !bytes.Equal(append(header(files, state), state...), b) {
			t.Errorf("%q is not what its parts are written as", b)
		}
		if len(b) >= headerSize { // most inputs fail for their checksum
			decode(resum(bytes.Clone(b)))
		}
	})
}
