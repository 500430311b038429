package relay

import (
	"math/rand/v2"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/wire"
)

func TestStatesAreCarried(t *testing.T) {
	d := rand.New(rand.NewPCG(1, 2))
	at := func() time.Time {
		if d.IntN(3) == 0 {
			return time.Time{}
		}
		return time.Unix(0, d.Int64N(1<<62))
	}
	data := func() []byte {
		if d.IntN(2) == 0 {
			return nil
		}
		return make([]byte, 1+d.IntN(1<<20))
	}
	pipe := func() *Pipe {
		if d.IntN(2) == 0 {
			return nil
		}
		return &Pipe{R: d.IntN(1000), W: d.IntN(1000), Bytes: d.IntN(1 << 20)}
	}
	side := func() Side {
		return Side{First: at(), At: at(), Close: observe.Close(d.IntN(2)), Sent: observe.Close(d.IntN(2))}
	}
	for range 100 {
		want := State{
			Started: at(), Began: at(), Hold: d.IntN(2) == 0, In: d.Int64() >> d.IntN(63), Out: d.Int64() >> d.IntN(63),
			Client: side(), Backend: side(), ToBackend: data(), ToClient: data(), Held: data(),
			Reason: []observe.Reason{"", observe.ClientReset}[d.IntN(2)], Errno: syscall.Errno(d.IntN(130)),
			PipeToBackend: pipe(), PipeToClient: pipe(),
		}
		var w wire.Writer
		var got State
		want.Append(&w)
		if err := got.Read(wire.NewReader(w.B)); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v: %+v, want %+v", err, got, want)
		}
	}
}
