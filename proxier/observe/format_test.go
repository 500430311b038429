package observe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
)

var formatters = map[string]func() *Formatter{"json": NewJSONFormatter, "text": NewTextFormatter}

// book is a logger whose other lines are all of the same time.
type book struct {
	*logrus.Logger
	out bytes.Buffer
}

var bookTime = time.Date(2026, 5, 4, 3, 2, 1, 987654000, time.FixedZone("", 2*60*60))

type hook func(*logrus.Entry)

func (h hook) Levels() []logrus.Level         { return logrus.AllLevels }
func (h hook) Fire(entry *logrus.Entry) error { h(entry); return nil }

func newBook(f logrus.Formatter) *book {
	b := &book{Logger: logrus.New()}
	b.SetOutput(&b.out)
	b.SetFormatter(f)
	return b
}

// line is what was written since it was last asked for.
func (b *book) line() string {
	defer b.out.Reset()
	return b.out.String()
}

// reference writes a record as Log.write has to.
func (b *book) reference(r *Record) string {
	level := logrus.InfoLevel
	if r.Trouble() {
		level = logrus.WarnLevel
	}
	b.WithTime(r.EndTime()).WithFields(referenceFields(r)).Log(level, referenceSentence(r))
	return b.line()
}

// drawing draws records, with everything in them that can be written in more than one
// way.
type drawing struct{ *rand.Rand }

func (d drawing) word(usual ...string) string {
	if d.IntN(4) > 0 {
		return usual[d.IntN(len(usual))]
	}
	alphabet := []string{"a", "Z", "7", "-", ".", "_", "/", "@", "^", "+", " ", "=", ":", ",", "\"", "\\", "'", "`", "<", ">", "&", "[", "{",
		"\n", "\r", "\t", "\b", "\f", "\x00", "\x1b", "\x7f", "\x80", "\xff", "\xed\xa0\x80", "\u00e9", "\u2028", "\u2029", "\ufeff", "\U0001f600", "\u009b", "\u202e", "\U000e0001", "%s"}
	var s strings.Builder
	for range d.IntN(6) {
		s.WriteString(alphabet[d.IntN(len(alphabet))])
	}
	return s.String()
}

func (d drawing) few(words ...string) Word { return WordOf(words[d.IntN(len(words))]) }

func (d drawing) duration() time.Duration {
	switch d.IntN(6) {
	case 0:
		return -1
	case 1:
		return time.Duration(d.IntN(3)) * time.Microsecond
	case 2:
		return 1_000_000*time.Millisecond + time.Duration(d.IntN(3)-1)*time.Microsecond
	}
	return time.Duration(d.Int64() >> d.IntN(63))
}

func (d drawing) addr() netip.AddrPort {
	texts := []string{"10.0.0.1", "255.255.255.255", "::", "fd00::9", "fe80::1%eth0", "fe80::1%\"<\n", "::ffff:10.0.0.1", "2001:db8:1:2:3:4:5:6"}
	addr := netip.MustParseAddr(texts[d.IntN(len(texts))])
	switch d.IntN(8) {
	case 0:
		return netip.AddrPort{}
	case 1:
		return netip.AddrPortFrom(netip.Addr{}, d.port())
	}
	return netip.AddrPortFrom(addr, d.port())
}

func (d drawing) port() uint16 { return uint16(d.Uint32() >> d.IntN(33)) }

func (d drawing) number() int64 { return int64(d.Uint64()) >> d.IntN(64) }

func (d drawing) reason() Reason {
	return Reasons()[d.IntN(len(meanings))]
}

func (d drawing) close() Close {
	return []Close{CloseNone, CloseFIN, CloseRST, CloseTimeout, CloseLocal}[d.IntN(5)]
}

func (d drawing) attempts() (list []Attempt) {
	for range max(d.IntN(6)-2, 0) {
		list = append(list, Attempt{
			Backend: d.addr(), Pod: d.word("", "shop/cart-1"), Start: d.duration(), Duration: d.duration(),
			Result: d.reason(), Errno: d.word("", "ECONNREFUSED"), Hedged: d.IntN(2) == 0,
		})
	}
	return list
}

func (d drawing) sockets() *Sockets {
	if d.IntN(2) == 0 {
		return nil
	}
	s := &Sockets{UnsentClient: max(d.number(), 0), UnsentBackend: max(d.number(), 0)}
	for _, info := range []**TCPInfo{&s.Client, &s.Backend} {
		if d.IntN(2) == 0 {
			*info = NewTCPInfo(&unix.TCPInfo{Rtt: d.Uint32(), Total_retrans: d.Uint32() >> d.IntN(33), State: uint8(d.IntN(256) >> d.IntN(8))})
		}
	}
	return s
}

func (d drawing) record() *Record {
	r := &Record{
		by: &Observer{node: d.word("node-a", "node-b"), boot: d.Int64N(1 << 40)}, number: d.Uint64(),
		Start:       time.Unix(d.Int64N(1<<32), d.Int64N(1e9)/[]int64{1, 1000, 1e6, 1e9}[d.IntN(4)]),
		ServicePort: &ServicePort{d.word("shop"), d.word("cart"), d.word("", "http"), []string{"tcp", "udp"}[d.IntN(2)]},
		Family:      4 + 2*uint8(d.IntN(2)),
		Client:      d.addr(), ClientKind: d.few("", "pod"), VIP: d.addr(), VIPKind: d.few("cluster", "node_port"), Listener: d.addr(),
		LocalPort: d.port(), Source: d.few("client", "node"), SourceWhy: d.few("", "off", "<&\n"),
		Balancer: d.few("random", "p2c"), Affinity: d.few("", "hit"), Set: d.few("", "cluster"),
		Pick: d.few("", "random", PickLastResort), Candidates: uint16(d.IntN(1 << 16)), Eligible: uint16(d.IntN(1000)), ServiceActive: d.Int32N(3), GlobalActive: d.Int32N(1000),
		Attempts: d.attempts(), Waited: d.duration(), Connect: d.duration(),
		Ending: &Ending{
			Duration: d.duration(), BytesIn: d.number(), BytesOut: d.number(), FirstReply: d.duration(),
			Reason: d.reason(), Errno: d.word("", "ECONNRESET"),
			DatagramsIn: d.number(), DatagramsOut: d.number(), Dropped: d.number(), FirstByte: d.duration(),
			ClientClose: d.close(), BackendClose: d.close(), ClientCloseAt: d.duration(), BackendCloseAt: d.duration(),
			SentClient: d.close(), SentBackend: d.close(), During: d.few("", "", "pick"), Sockets: d.sockets(),
		},
	}
	r.SetBackend(balancer.Endpoint{Addr: d.addr(), Pod: d.word("", "shop/cart-1"), Node: d.word("", "node-a"), Zone: d.word("", "z1")})
	return r
}

// A line is the same, byte by byte, whether the record writes it or logrus.
func TestLinesAreThoseOfLogrus(t *testing.T) {
	for format, ours := range formatters {
		t.Run(format, func(t *testing.T) {
			d := drawing{rand.New(rand.NewPCG(1, 2))}
			reference := newBook(referenceFormatter(format))
			compact, expanded := newBook(ours()), newBook(referenceFormatter(format))
			toCompact, toExpanded := NewLog(compact.Logger), NewLog(expanded.Logger)
			for i := range 5000 {
				r := d.record()
				want := reference.reference(r)
				toCompact.writeAll([]*Record{r})
				if got := compact.line(); got != want {
					t.Fatalf("record %d is\n%s\nwant\n%s", i, got, want)
				}
				toExpanded.write(r)
				if got := expanded.line(); got != want {
					t.Fatalf("by another formatter record %d is\n%s\nwant\n%s", i, got, want)
				}
			}
		})
	}
}

// What is no record is written by logrus, and so is a record that somebody has added
// to, or whose line has more to it.
func TestLinesThatLogrusHasToWrite(t *testing.T) {
	r := drawing{rand.New(rand.NewPCG(3, 4))}.record()
	for format, ours := range formatters {
		for what, change := range map[string]func(*book){
			"hook adds a field":   func(b *book) { b.AddHook(hook(func(e *logrus.Entry) { e.Data["zone"] = "z 1" })) },
			"hook adds a clash":   func(b *book) { b.AddHook(hook(func(e *logrus.Entry) { e.Data["msg"] = "other" })) },
			"hook is terse":       func(b *book) { b.AddHook(hook(func(e *logrus.Entry) { e.Message = "" })) },
			"hook is shy":         func(b *book) { b.AddHook(hook(func(e *logrus.Entry) { e.Level = logrus.ErrorLevel })) },
			"formatter to a book": func(*book) {},
		} {
			got, want := newBook(ours()), newBook(referenceFormatter(format))
			change(got)
			change(want)
			NewLog(got.Logger).writeAll([]*Record{r})
			if got, want := got.line(), want.reference(r); got != want {
				t.Errorf("%s, %s:\n%s\nwant\n%s", format, what, got, want)
			}
			got.WithTime(bookTime).WithError(errors.New("it <failed>")).WithField("n", 1).Warn("not of a record")
			want.WithTime(bookTime).WithError(errors.New("it <failed>")).WithField("n", 1).Warn("not of a record")
			if got, want := got.line(), want.line(); got != want {
				t.Errorf("%s, %s:\n%s\nwant\n%s", format, what, got, want)
			}
		}
		b := newBook(ours())
		b.SetReportCaller(true)
		NewLog(b.Logger).write(r)
		if line := b.line(); !strings.Contains(line, "(*Log).write") || !strings.Contains(line, "first_byte_backend_ms") {
			t.Errorf("%s: no caller in %s", format, line)
		}
	}
}

// Colours are for logrus, too.
func TestColouredLine(t *testing.T) {
	r := drawing{rand.New(rand.NewPCG(3, 4))}.record()
	ours, reference := NewTextFormatter(), referenceFormatter("text").(*logrus.TextFormatter)
	ours.others.(*logrus.TextFormatter).ForceColors, reference.ForceColors = true, true
	got, want := newBook(ours), newBook(reference)
	NewLog(got.Logger).writeAll([]*Record{r})
	if got, want := got.line(), want.reference(r); got != want || !strings.Contains(got, "\x1b[") {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// The level of the logger is asked first, and hooks see the record.
func TestLevelAndHooksOfTheLogger(t *testing.T) {
	for format, ours := range formatters {
		b := newBook(ours())
		b.SetLevel(logrus.WarnLevel)
		var seen []*Record
		b.AddHook(hook(func(e *logrus.Entry) { seen = append(seen, e.Data[recordField].(*Record)) }))
		log := NewLog(b.Logger)
		d := drawing{rand.New(rand.NewPCG(5, 6))}
		well, ill := d.record(), d.record()
		well.Reason, well.Dropped, ill.Reason = OK, 0, ClientReset
		log.write(well)
		log.write(ill)
		if lines := strings.Count(b.line(), "\n"); lines != 1 || len(seen) != 1 || seen[0] != ill {
			t.Errorf("%s: %d lines, hooks have seen %d records", format, lines, len(seen))
		}
	}
}

// Records that are written together have the lines that each would have alone.
func TestRecordsWrittenTogether(t *testing.T) {
	d := drawing{rand.New(rand.NewPCG(7, 8))}
	var list []*Record
	for range 3 * together {
		list = append(list, d.record())
	}
	for format, ours := range formatters {
		alone := newBook(ours())
		alone.SetLevel(logrus.WarnLevel)
		for _, r := range list {
			NewLog(alone.Logger).write(r)
		}
		want := alone.line()
		var out writes
		logger := &logrus.Logger{Out: &out, Formatter: ours(), Level: logrus.WarnLevel}
		log := NewLog(logger)
		for _, r := range list {
			log.add(r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		log.Run(ctx)
		if got := strings.Join(out, ""); got != want {
			t.Errorf("%s: %s\nwant\n%s", format, got, want)
		}
		if len(out) != 3 {
			t.Errorf("%s: %d writes for %d records", format, len(out), len(list))
		}
	}
}

// writes are what was written, each by itself.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

// Nobody else's fields are taken for the entry's own.
func TestFieldsAreTold(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range fields {
		if slices.Contains([]string{"ts", "time", "level", "msg", "func", "file", "logrus_error", recordField}, f.key) {
			t.Errorf("%s is a key of logrus", f.key)
		}
		if seen[f.key] && f.key != "event" {
			t.Errorf("%s is there twice", f.key)
		}
		seen[f.key] = true
	}
}

// ordinary is the record of a connection that went well.
func ordinary() *Record {
	at := netip.MustParseAddrPort
	r := &Record{
		by: &Observer{node: "node-a", boot: 1_780_000_000}, number: 123456, Start: time.Unix(1_780_000_000, 123_456_789),
		ServicePort: &ServicePort{"shop", "cart", "http", "tcp"}, Family: 4,
		Client: at("10.0.0.9:51234"), ClientKind: WordOf("pod"), VIP: at("10.96.0.10:80"), VIPKind: WordOf("cluster"), Listener: at("10.0.0.1:34567"),
		LocalPort: 40404, Source: WordOf("client"), Balancer: WordOf("least-connections"), Pick: WordOf("least-connections"), Set: WordOf("cluster"), Candidates: 13, Eligible: 12, ServiceActive: 3, GlobalActive: 1234,
		Attempts: []Attempt{{Backend: at("10.0.0.2:8080"), Pod: "shop/cart-5d8f7c-2", Start: 61 * time.Microsecond, Duration: 234 * time.Microsecond, Result: OK}},
		Connect:  234 * time.Microsecond,
		Ending: &Ending{
			Duration: 12_345 * time.Microsecond, BytesIn: 512, BytesOut: 65536, FirstReply: 1_234 * time.Microsecond,
			Reason: OK, FirstByte: 456 * time.Microsecond,
			ClientClose: CloseFIN, BackendClose: CloseFIN, ClientCloseAt: 12_000 * time.Microsecond, BackendCloseAt: 12_300 * time.Microsecond,
			SentClient: CloseFIN, SentBackend: CloseFIN,
		},
	}
	r.SetBackend(balancer.Endpoint{Addr: at("10.0.0.2:8080"), Pod: "shop/cart-5d8f7c-2", Node: "node-a", Zone: "eu-1a"})
	return r
}

func BenchmarkWrite(b *testing.B) {
	for format, ours := range formatters {
		for who, f := range map[string]logrus.Formatter{"usher": ours(), "logrus": referenceFormatter(format)} {
			b.Run(format+"/"+who, func(b *testing.B) {
				logger := logrus.New()
				logger.SetOutput(io.Discard)
				logger.SetFormatter(f)
				log, r := NewLog(logger), ordinary()
				b.ReportAllocs()
				batch := make([]*Record, together)
				for b.Loop() {
					for i := range batch {
						batch[i] = r
					}
					log.writeAll(batch)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*together), "ns/line")
			})
		}
	}
}
