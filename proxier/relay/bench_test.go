package relay

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// BenchmarkConnection relays connections of one byte each way, one after the
// other. cpu-us/op is that of the whole process, the two peers included.
func BenchmarkConnection(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmark(b, settings(time.Minute, false)) })
	b.Run("held", func(b *testing.B) { benchmark(b, settings(time.Minute, true)) })
}

func benchmark(b *testing.B, settings Settings) {
	front, back := listen(b), listen(b)
	one := make([]byte, 1)
	before := cpu(b)
	for b.Loop() {
		client, ours := connect(b, front)
		theirs, backend := connect(b, back)
		s := &scene{result: make(chan Result, 1), took: make(chan time.Duration, 1)}
		s.relay = New(adopt(b, ours), adopt(b, theirs), settings, s)
		s.relay.Start()
		client.Write(one)
		io.ReadFull(backend, one)
		backend.Write(one)
		io.ReadFull(client, one)
		client.Close()
		backend.Close()
		if res := <-s.result; res.In != 1 || res.Out != 1 {
			b.Fatalf("result %+v", res)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

func listen(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	return ln
}

func connect(b *testing.B, to net.Listener) (dialled, accepted *net.TCPConn) {
	d, err := net.Dial("tcp", to.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	a, err := to.Accept()
	if err != nil {
		b.Fatal(err)
	}
	return d.(*net.TCPConn), a.(*net.TCPConn)
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
