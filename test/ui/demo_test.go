package ui

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/cmd/usher/cli/demo"
	"github.com/usher-proxy/usher/test/browser"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) } // the demo's addresses are nobody else's here

// startDemo runs usher demo until the test ends, and returns the address of its page.
func startDemo(t *testing.T) (address string) {
	t.Helper()
	out, in := io.Pipe()
	log := logrus.New()
	log.SetOutput(io.Discard)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := demo.Run(ctx, demo.Options{Out: in, Log: log})
		in.Close()
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "usher-demo-*")); len(left) > 0 {
			t.Errorf("the demo has left %v", left)
		}
	})
	found := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http://") {
				found <- line
			}
		}
	}()
	select {
	case address = <-found:
	case err := <-ended:
		ended <- err
		t.Fatalf("the demo ended before it told an address: %v", err)
	}
	return address
}

// curl asks for a page by a connection of its own.
func curl(t *testing.T, address string) (answer string) {
	t.Helper()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// shot takes a picture for people to look at, if USHER_UI_SHOTS names a directory.
func shot(tab *browser.Tab, name string) {
	if dir := os.Getenv("USHER_UI_SHOTS"); dir != "" {
		tab.Shot(filepath.Join(dir, "demo-"+name+".png"))
	}
}

// What a newcomer does within the first minute: three curls and a look at the page, which
// shows which endpoint answered, that one is dead, and what was done about it.
func TestTheFirstMinute(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	address := startDemo(t)
	tab := browser.Open(t, address)
	tab.Sees("Serving")
	tab.Sees("bind capture")

	for range 9 {
		if answer := curl(t, "127.96.0.11:8080"); !strings.HasPrefix(answer, "web-") {
			t.Fatalf("flaky answers %q", answer)
		}
		curl(t, "127.96.0.10:8080")
	}
	if conn, err := net.Dial("tcp", "127.96.0.13:8080"); err == nil {
		conn.Close()
		t.Error("empty has accepted")
	}
	open, err := net.Dial("tcp", "127.96.0.12:7007")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	fmt.Fprint(open, "hello")

	t.Run("attention", func(t *testing.T) {
		tab.Sees("default/empty")
		shot(tab, "overview")
	})
	t.Run("services", func(t *testing.T) {
		tab.GoTo("/services")
		tab.Sees("5 Services")
		tab.Sees("default/flaky")
		shot(tab, "services")
	})
	t.Run("service", func(t *testing.T) {
		tab.GoTo("/service/default/flaky?port=http%2Ftcp+IPv4")
		tab.Sees("127.97.0.9:8080")
		tab.Sees("dead")
		shot(tab, "service")
	})
	t.Run("explain", func(t *testing.T) {
		tab.GoTo("/service/default/flaky")
		tab.Sees("Nothing is sent to find this out")
		tab.Sees("Candidates")
	})
	t.Run("flows", func(t *testing.T) {
		tab.GoTo("/flows?service=default%2Fflaky")
		const row = "[...document.querySelectorAll('tbody tr')].find(e => e.children[5]?.textContent === '2')?.querySelector('button')"
		tab.Until(row)
		browser.Eval[bool](tab, "("+row+".click(), true)")
		tab.Sees("after 1 failed attempt on default/dead (ECONNREFUSED)")
		shot(tab, "record")
		tab.Do(chromedp.KeyEvent(kb.Escape))
	})
	t.Run("map", func(t *testing.T) {
		tab.GoTo("/map")
		tab.Until("document.querySelectorAll('.talk .node').length > 5")
		shot(tab, "map")
	})
	t.Run("connections", func(t *testing.T) {
		tab.GoTo("/connections")
		tab.Sees("default/echo")
		tab.Do(chromedp.Click(chromedp.CSS("tbody button")))
		tab.Sees("Towards the client (TCP_INFO)")
		shot(tab, "connection")
		tab.Do(chromedp.KeyEvent(kb.Escape))
	})
	t.Run("rules", func(t *testing.T) {
		tab.GoTo("/rules")
		tab.Sees("There are no packet filter rules")
		shot(tab, "rules")
	})
	t.Run("nothing broken", func(t *testing.T) {
		tab.Clean()
	})
}
