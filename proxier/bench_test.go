package proxier

import (
	"io"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Each benchmark runs once through usher and once without it, so that the ratio
// of the two can be read off one run.

func benchmark(b *testing.B, handle func(net.Conn), run func(b *testing.B, addr string)) {
	backend := serveTCP(b, handle)
	b.Run("direct", func(b *testing.B) { run(b, backend.String()) })
	b.Run("usher", func(b *testing.B) {
		s := newScene(b, func(c *Config) { c.OnRecord = nil; c.Registry = prometheus.NewRegistry() })
		s.set(with(service("bench", vip), backend)...)
		s.eventually("served", func() error {
			c, err := net.Dial("tcp", vip)
			if err == nil {
				c.Close()
			}
			return err
		})
		run(b, vip)
	})
}

// One connection after the other, with one byte of answer.
func BenchmarkConnection(b *testing.B) {
	benchmark(b, func(c net.Conn) { c.Write([]byte("x")) }, func(b *testing.B, addr string) {
		for b.Loop() {
			if _, err := get(addr); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Questions and answers of one byte on one connection.
func BenchmarkRoundTrip(b *testing.B) {
	benchmark(b, func(c net.Conn) { io.Copy(c, c) }, func(b *testing.B, addr string) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		question := []byte("x")
		for b.Loop() {
			if _, err := c.Write(question); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, question); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Bytes from client to backend.
func BenchmarkBulk(b *testing.B) {
	benchmark(b, func(c net.Conn) { io.Copy(io.Discard, c) }, func(b *testing.B, addr string) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		chunk := make([]byte, 256<<10)
		b.SetBytes(int64(len(chunk)))
		for b.Loop() {
			if _, err := c.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
	})
}
