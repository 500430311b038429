package observe

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
)

// nasty are names that no cluster has, and a manifest file may.
var nasty = []string{
	"\x1b[2J\x1b]0;owned\x07", "a\nlevel=error msg=forged", "a\r\nb", "\u009b31m", "\x7f\x7f", "\x00", "\x80\x9b\xff",
	"\u202egpj.exe", "\u2028", "\ufeff", "\U000e0041", "\x85", "a\tb", "\"},{\"", "`$(reboot)`",
}

// clean fails the test if something in text is not printable, but for line breaks.
func clean(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(text[i:]); n == 1 {
				t.Errorf("%s: bytes that are no UTF-8: %q", what, text)
				return
			}
		}
		if !unicode.IsPrint(r) && r != '\n' {
			t.Errorf("%s: %U in %q", what, r, text)
			return
		}
	}
}

// nastyRecord has a name everywhere that a name may be.
func nastyRecord(name string) *Record {
	r := &Record{by: &Observer{node: name}, ServicePort: &ServicePort{name, name, name, "tcp"}}
	r.End()
	r.Client = netip.MustParseAddrPort("[fe80::1%eth0]:1")
	r.Client = netip.AddrPortFrom(r.Client.Addr().WithZone(name), 1)
	r.Reason, r.Errno = BackendReset, name
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	r.Attempts = []Attempt{{Backend: addr, Pod: name, Result: BackendRefused, Errno: name}, {Backend: addr, Pod: name, Result: OK}}
	r.SetBackend(balancer.Endpoint{Addr: addr, Pod: name, Node: name, Zone: name})
	return r
}

// Whatever a name has in it, nothing of it reaches a terminal or a line of the log that is
// not printable: in records, in messages, with colours and without.
func TestNastyNames(t *testing.T) {
	coloured := func() *Formatter {
		f := NewTextFormatter()
		f.others.(*logrus.TextFormatter).ForceColors = true
		return f
	}
	strip := strings.NewReplacer("\x1b[33m", "", "\x1b[36m", "", "\x1b[0m", "", "\x1b[31m", "") // logrus's own
	for format, ours := range map[string]func() *Formatter{"json": NewJSONFormatter, "text": NewTextFormatter, "coloured": coloured} {
		for _, name := range nasty {
			b := newBook(ours())
			log := NewLog(b.Logger)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			log.add(nastyRecord(name))
			log.Run(ctx)
			line := strip.Replace(b.line())
			clean(t, format+" record", line)
			if n := strings.Count(line, "\n"); n != 1 {
				t.Errorf("%s: a record has %d lines: %q", format, n, line)
			}
			if format == "json" {
				var got map[string]any
				if err := json.Unmarshal([]byte(line), &got); err != nil {
					t.Errorf("%q: %v", line, err)
				}
				if want := strings.ToValidUTF8(name, "\ufffd"); utf8.ValidString(name) && got["service"] != want {
					t.Errorf("%q is read back as %q", name, got["service"])
				}
			}

			b.WithField("service", name).WithError(faulty(name)).Warn("no endpoints for " + name)
			line = strip.Replace(b.line())
			clean(t, format+" message", line)
			for i, l := range strings.Split(strings.TrimSuffix(line, "\n"), "\n") {
				if i > 0 && !strings.HasPrefix(l, "  ") {
					t.Errorf("%s: a forged line %q", format, l)
				}
			}

			s := storms{limit: 1, seen: map[trouble]int{{*nastyRecord(name).ServicePort, BackendReset}: 2}}
			s.began = bookTime
			s.end(b.Logger)
			clean(t, format+" summary", strip.Replace(b.line()))
		}
	}
	for _, name := range nasty {
		text, err := json.Marshal(nastyRecord(name))
		if err != nil {
			t.Error(err)
		}
		clean(t, "MarshalJSON", string(text))
		clean(t, "Printable", Printable(name))
	}
}

type faulty string

func (f faulty) Error() string { return string(f) }

func TestEscapeJSON(t *testing.T) {
	for _, c := range []struct{ is, want string }{
		{`{"a":"b"}`, `{"a":"b"}`},
		{"{\n\t\"é\": \"世界😀\"\n}", "{\n\t\"é\": \"世界😀\"\n}"},
		{"\"\x7f\u009b\u202e\U000e0041\"", `"\u007f\u009b\u202e\udb40\udc41"`},
		{"\"\xff\"", `"\ufffd"`},
	} {
		if got := string(EscapeJSON([]byte(c.is))); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.is, got, c.want)
		}
	}
}
