package ui

import (
	"context"
	"sync"
	"testing"

	"github.com/usher-proxy/usher/test/browser"
	"github.com/usher-proxy/usher/test/netns"
)

// In a network of its own, where the browser finds nothing but the page.
func TestMain(m *testing.M) { netns.Main(m) }

// serve serves the page of a socket until the end of the test.
func serve(t *testing.T, socket string) *Page {
	t.Helper()
	p, _ := serveUntil(t, socket)
	return p
}

// serveUntil also returns how to end it before.
func serveUntil(t *testing.T, socket string) (_ *Page, end func()) {
	t.Helper()
	p, err := Open(socket, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx) }()
	end = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return p, end
}

// open opens the page of a socket in a browser.
func open(t *testing.T, socket string) *browser.Tab {
	t.Helper()
	return browser.Open(t, serve(t, socket).URL())
}

// opened is the page of a fake usher with that many Services.
func opened(t *testing.T, services int) (*fake, *browser.Tab) {
	t.Helper()
	f := newFake(t, services)
	f.start(t)
	return f, open(t, f.socket)
}
