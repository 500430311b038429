package ui

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Page is one that is served.
type Page struct {
	listener *net.TCPListener
	doors    *doors
	handler  http.Handler
}

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	headerBytes   = 16 << 10
	// requestLimit is how many requests there may be at a time. A browser makes six.
	requestLimit = 64
)

// ErrNotLocal says that the page was to be served to other machines.
var ErrNotLocal = errors.New("the page is only for this machine: want a loopback address and a port, as in 127.0.0.1:0")

// Open begins to listen to an IP address and port of this machine's loopback (port 0: any
// that is free); every other is ErrNotLocal. The page shows the usher behind the admin
// socket, which need not be there yet. Serve has to be called.
func Open(socket, listen string) (*Page, error) {
	at, err := netip.ParseAddrPort(listen)
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return nil, ErrNotLocal
	}
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	p := &Page{listener: listener, doors: newDoors(listener.Addr().(*net.TCPAddr).Port)}
	content := http.NewServeMux()
	content.Handle("/v1/", forward(socket))
	content.Handle("/", files())
	p.handler = bounded(requestLimit, secured(bodiless(p.doors.guard(content))))
	return p, nil
}

// URL is the address that lets its first user in.
func (p *Page) URL() string {
	u := url.URL{Scheme: "http", Host: p.listener.Addr().String(), Path: "/", RawQuery: "token=" + p.doors.token}
	return u.String()
}

// Serve serves until ctx is done, and then ends everything that still streams. It returns
// an error only if it cannot go on.
func (p *Page) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           p.handler,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// bodiless hangs up on who wants to send something: nothing here takes it, and net/http would
// wait for it without a limit of time.
func bodiless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if err := http.NewResponseController(w).SetReadDeadline(time.Now()); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Connection", "close")
		http.Error(w, "the page only reads", http.StatusBadRequest)
	})
}

// bounded lets limit requests be served at a time.
func bounded(limit int, next http.Handler) http.Handler {
	places := make(chan struct{}, limit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next.ServeHTTP(w, r)
		default:
			http.Error(w, "too many requests at a time", http.StatusServiceUnavailable)
		}
	})
}
