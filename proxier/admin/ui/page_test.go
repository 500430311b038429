package ui

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// visitor asks the page as a browser does that keeps cookies and follows no redirect.
type visitor struct {
	t      *testing.T
	client *http.Client
	page   *Page
}

func visit(t *testing.T, p *Page) *visitor {
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{t, &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, p}
}

// ask asks for a path; headers are pairs of a name and a value, of which Host is one too.
func (v *visitor) ask(method, path string, headers ...string) (*http.Response, string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, "http://"+v.page.listener.Addr().String()+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return response, string(body)
}

func (v *visitor) expect(status int, method, path string, headers ...string) string {
	v.t.Helper()
	response, body := v.ask(method, path, headers...)
	if response.StatusCode != status {
		v.t.Errorf("%s %s %v: %s, want %d", method, path, headers, response.Status, status)
	}
	return body
}

func (v *visitor) enter() *visitor {
	v.t.Helper()
	v.expect(http.StatusSeeOther, "GET", "/?token="+v.page.doors.token)
	return v
}

func TestTheAddressWorksOnce(t *testing.T) {
	p := serve(t, "/nowhere")
	path := strings.TrimPrefix(p.URL(), "http://"+p.listener.Addr().String())
	stranger, first := visit(t, p), visit(t, p)
	stranger.expect(http.StatusForbidden, "GET", "/")
	stranger.expect(http.StatusForbidden, "GET", "/?token=guess")
	stranger.expect(http.StatusForbidden, "HEAD", path) // as a preview of a link asks: it uses nothing up
	response, _ := first.ask("GET", path)
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/" {
		t.Fatalf("the token leads to %s %q", response.Status, response.Header.Get("Location"))
	}
	cookie := response.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.MaxAge != 0 || !cookie.Expires.IsZero() || strings.Contains(path, cookie.Value) {
		t.Errorf("the cookie is %v", cookie)
	}
	if body := first.expect(http.StatusOK, "GET", "/"); !strings.Contains(body, `<main id="main"`) {
		t.Errorf("the page is %s", body)
	}
	if body := stranger.expect(http.StatusForbidden, "GET", path); !strings.Contains(body, "Run <code>usher ui</code> again") {
		t.Errorf("the second user of the address is told %s", body)
	}
	first.expect(http.StatusSeeOther, "GET", path) // its own browser may, and sees no token any more
	for _, path := range []string{"/js/main.js", "/v1/status", "/icon.svg"} {
		stranger.expect(http.StatusForbidden, "GET", path)
		stranger.expect(http.StatusForbidden, "GET", path, "Cookie", cookie.Name+"=guess")
	}
}

// Two pages of one host share their cookies, which know no ports.
func TestTwoPages(t *testing.T) {
	a := serve(t, "/nowhere")
	b := serve(t, "/nowhere")
	v := visit(t, a).enter()
	v.page = b
	v.expect(http.StatusForbidden, "GET", "/")
	v.enter()
	v.page = a
	v.expect(http.StatusOK, "GET", "/")
}

func TestWhoIsRefused(t *testing.T) {
	p := serve(t, "/nowhere")
	v := visit(t, p).enter()
	_, port, _ := net.SplitHostPort(p.listener.Addr().String())
	cookie := p.doors.cookie + "=" + p.doors.secret // which a jar would not send to another host
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port} {
		v.expect(http.StatusOK, "GET", "/", "Host", host, "Cookie", cookie)
	}
	for _, host := range []string{"evil.example", "evil.example:" + port, "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:" + port} {
		v.expect(http.StatusForbidden, "GET", "/", "Host", host, "Cookie", cookie)
	}
	own := "http://" + p.listener.Addr().String()
	v.expect(http.StatusOK, "GET", "/", "Origin", own, "Sec-Fetch-Site", "same-origin")
	v.expect(http.StatusOK, "GET", "/", "Sec-Fetch-Site", "none")
	for _, headers := range [][]string{
		{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Origin", "http://127.0.0.1:1"}, {"Origin", "https://" + p.listener.Addr().String()},
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
	} {
		v.expect(http.StatusForbidden, "GET", "/v1/status", headers...)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		for _, path := range []string{"/", "/v1/status", "/v1/kill?id=1"} {
			response, _ := v.ask(method, path)
			if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %s", method, path, response.Status)
			}
		}
	}
}

// A link on another site must not use the address up.
func TestALinkElsewhere(t *testing.T) {
	p := serve(t, "/nowhere")
	v := visit(t, p)
	v.expect(http.StatusForbidden, "GET", "/?token="+p.doors.token, "Sec-Fetch-Site", "cross-site")
	v.enter()
}

// Whoever announces something and never sends it does not keep a connection, known or not.
func TestABodyIsNotWaitedFor(t *testing.T) {
	p := serve(t, "/nowhere")
	at := p.listener.Addr().String()
	for _, begin := range []string{"POST / HTTP/1.1\r\nContent-Length: 1000\r\n", "GET /v1/status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, begin+"Host: "+at+"\r\n\r\n")
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Errorf("%q: %q, %v", begin, answer, err)
		}
	}
}

func TestOnlyFilesOfThePage(t *testing.T) {
	p := serve(t, "/nowhere")
	v := visit(t, p).enter()
	for _, path := range []string{"/js", "/js/", "/js/../../page.go", "/%2e%2e/page.go", "/..%2fpage.go", "//etc/passwd", "/js/%2e%2e/%2e%2e/doors.go", "/v1/../js/main.js", "/nothing", "/v1"} {
		response, body := v.ask("GET", path)
		if response.StatusCode == http.StatusOK || strings.Contains(body, "package ui") {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	for _, path := range []string{"/js", "/js/", "/css"} { // no lists
		v.expect(http.StatusNotFound, "GET", path)
	}
	for path, kind := range map[string]string{"/": "text/html", "/js/main.js": "text/javascript", "/css/base.css": "text/css", "/icon.svg": "image/svg+xml", "/uplot/LICENSE": "text/plain"} {
		response, _ := v.ask("GET", path)
		if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s %s", path, response.Status, response.Header.Get("Content-Type"))
		}
	}
}

func TestEveryAnswerIsSecured(t *testing.T) {
	f := newFake(t, 3)
	f.start(t)
	p := serve(t, f.socket)
	v, stranger := visit(t, p).enter(), visit(t, p)
	for _, ask := range []func() (*http.Response, string){
		func() (*http.Response, string) { return v.ask("GET", "/") },
		func() (*http.Response, string) { return v.ask("GET", "/v1/status") },
		func() (*http.Response, string) { return v.ask("GET", "/v1/nothing") },
		func() (*http.Response, string) { return v.ask("POST", "/") },
		func() (*http.Response, string) { return stranger.ask("GET", "/") },
	} {
		response, _ := ask()
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := response.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s: %q, want %q", response.Request.URL, name, got, want)
			}
		}
	}
}

func TestOnlyThisMachine(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "10.0.0.1:0", "localhost:0", "127.0.0.1", "", "[::ffff:10.0.0.1]:0"} {
		if p, err := Open("/nowhere", listen); !errors.Is(err, ErrNotLocal) {
			t.Errorf("%q: %v, %v", listen, p, err)
		}
	}
}

func TestAnswersOfUsherComeThrough(t *testing.T) {
	f := newFake(t, 3)
	f.start(t)
	p := serve(t, f.socket)
	v := visit(t, p).enter()
	var s admin.Status
	if err := json.Unmarshal([]byte(v.expect(http.StatusOK, "GET", "/v1/status")), &s); err != nil || s.Node != "worker-3" {
		t.Errorf("got %v, %v", s, err)
	}
	if body := v.expect(http.StatusBadRequest, "GET", "/v1/status?nonsense=1"); !strings.Contains(body, `no parameter \"nonsense\"`) {
		t.Errorf("got %s", body)
	}
	f.stop()
	if body := v.expect(http.StatusBadGateway, "GET", "/v1/status"); !strings.Contains(body, f.socket) {
		t.Errorf("without usher: %s", body)
	}
}

// What usher is sent has nothing of the browser in it, least of all its cookie.
func TestUsherSeesNoCookie(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "usher.sock")
	l, err := admin.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan http.Header, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	p := serve(t, socket)
	visit(t, p).enter().expect(http.StatusOK, "GET", "/v1/status", "X-Own", "1")
	if header := <-seen; header.Get("Cookie") != "" || header.Get("X-Own") != "" {
		t.Errorf("usher sees %v", header)
	}
}

// Each line of a stream comes as usher sends it, and the stream ends with its reader, and
// with the page.
func TestAStream(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "usher.sock")
	l, err := admin.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	more, gone := make(chan string), make(chan bool, 2)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case line := <-more:
				io.WriteString(w, line)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				gone <- true
				return
			}
		}
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })

	p, err := Open(socket, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx) }()
	v := visit(t, p).enter()
	follow := func() (io.ReadCloser, func()) {
		asked, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(asked, "GET", "http://"+p.listener.Addr().String()+"/v1/flows?"+url.Values{"follow": {"true"}}.Encode(), nil)
		go func() { more <- "first\n" }()
		response, err := v.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response.Body, cancel
	}
	body, leave := follow()
	line := make([]byte, 6)
	for _, want := range []string{"first\n", "again\n"} {
		if _, err := io.ReadFull(body, line); err != nil || string(line) != want {
			t.Fatalf("got %q, %v", line, err)
		}
		if want == "first\n" {
			more <- "again\n"
		}
	}
	leave()
	<-gone
	body.Close()

	body, leave = follow()
	defer leave()
	defer body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-gone
}
