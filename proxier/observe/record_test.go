package observe

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
)

// Every idle connection has a record.
func TestRecordIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Record{}); size > 224 { // a size class of the allocator
		t.Errorf("%d bytes", size)
	}
}

func TestRecordsCostFewAllocations(t *testing.T) {
	o, m, _, _ := setup(t)
	port := m.Port("shop", "cart", "http", "tcp")
	o.Closed(port, o.Record(port, time.Now())) // its reason is counted from now on
	if n := testing.AllocsPerRun(1000, func() { o.Closed(port, o.Open(port)) }); n > 2 {
		t.Errorf("%v for a record", n)
	}
	for format, ours := range formatters {
		logger := logrus.New()
		logger.SetOutput(io.Discard)
		logger.SetFormatter(ours())
		log, r := NewLog(logger), ordinary()
		batch := make([]*Record, 1)
		if n := testing.AllocsPerRun(1000, func() { batch[0] = r; log.writeAll(batch) }); n > 7 {
			t.Errorf("%v for a line of %s", n, format)
		}
		logger.SetLevel(logrus.WarnLevel)
		if n := testing.AllocsPerRun(1000, func() { batch[0] = r; log.writeAll(batch) }); n > 0 {
			t.Errorf("%v for no line of %s", n, format)
		}
	}
}

func TestBackendOfRecord(t *testing.T) {
	o, m, _, _ := setup(t)
	r := o.Open(m.Port("shop", "cart", "http", "tcp"))
	if r.Backend() != (balancer.Endpoint{}) || r.hasBackend() {
		t.Errorf("a new record has %+v", r.Backend())
	}
	e := ordinary().Backend()
	if r.SetBackend(e); r.Backend() != e || !r.hasBackend() {
		t.Errorf("%+v, want %+v", r.Backend(), e)
	}
	if r.SetBackend(balancer.Endpoint{Pod: "no address"}); r.hasBackend() {
		t.Errorf("%+v is left", r.Backend())
	}
}

// As JSON a record is its fields.
func TestRecordAsJSON(t *testing.T) {
	r := drawing{rand.New(rand.NewPCG(7, 8))}.record()
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(referenceFields(r))
	want = escapedJSON(want)
	if err != nil || string(got) != string(want) {
		t.Errorf("%s\nwant\n%s (%v)", got, want, err)
	}
}

func BenchmarkSetBackend(b *testing.B) {
	r, e := ordinary(), ordinary().Backend()
	b.ReportAllocs()
	for b.Loop() {
		r.SetBackend(e)
	}
}
