package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// backends are the pods of the demo, as manifests/ names them.
var backends = map[string]string{
	"web-1": "127.97.0.1",
	"web-2": "127.97.0.2",
	"web-3": "127.97.0.3",
}

const (
	httpPort = "8080"
	echoPort = "7007"
)

// startBackends serves until ctx is done; done.Wait then waits for all of it.
func startBackends(ctx context.Context, done *sync.WaitGroup) error {
	for name, ip := range backends {
		web, err := net.Listen("tcp", net.JoinHostPort(ip, httpPort))
		if err != nil {
			return explain(err)
		}
		serveHTTP(ctx, done, web, name)
		echo, err := net.Listen("tcp", net.JoinHostPort(ip, echoPort))
		if err != nil {
			return explain(err)
		}
		serveEcho(ctx, done, echo)
		packets, err := net.ListenPacket("udp", net.JoinHostPort(ip, echoPort))
		if err != nil {
			return explain(err)
		}
		servePackets(ctx, done, packets, name)
	}
	return nil
}

func explain(err error) error {
	return fmt.Errorf("start the demo's backends: %w (is another usher demo running?)", err)
}

func serveHTTP(ctx context.Context, done *sync.WaitGroup, ln net.Listener, name string) {
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s (seen from here, you are %s)\n", name, r.RemoteAddr)
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	done.Go(func() { server.Serve(ln) })
}

func serveEcho(ctx context.Context, done *sync.WaitGroup, ln net.Listener) {
	context.AfterFunc(ctx, func() { ln.Close() })
	done.Go(func() {
		for {
			conn, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			done.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				io.Copy(conn, conn)
			})
		}
	})
}

// servePackets sends every datagram back, behind its own name.
func servePackets(ctx context.Context, done *sync.WaitGroup, conn net.PacketConn, name string) {
	context.AfterFunc(ctx, func() { conn.Close() })
	done.Go(func() {
		buf := make([]byte, 1<<16)
		n := copy(buf, name+" ")
		for {
			size, from, err := conn.ReadFrom(buf[n:])
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				conn.WriteTo(buf[:n+size], from)
			}
		}
	})
}
