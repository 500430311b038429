package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve serves views at a new socket until the test ends.
func serve(t *testing.T, views map[string]View) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "usher.sock")
	serveAt(t, path, views)
	return path
}

func serveAt(t *testing.T, path string, views map[string]View) *http.Server {
	t.Helper()
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	server, ended := API{Views: views}.Server(), make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return server
}

func show(answer any, err error) View {
	return View{Parameters: []string{"name"}, Show: func(url.Values) (any, error) { return answer, err }}
}

func TestAView(t *testing.T) {
	socket := serve(t, map[string]View{"/v1/greeting": {Parameters: []string{"name"}, Show: func(q url.Values) (any, error) {
		return map[string]string{"hello": q.Get("name")}, nil
	}}})
	var got map[string]string
	if err := Get(t.Context(), socket, "/v1/greeting", url.Values{"name": {"a/b & c"}}, &got); err != nil || got["hello"] != "a/b & c" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	socket := serve(t, map[string]View{
		"/v1/missing": show(nil, fmt.Errorf("no such: %w", &Error{http.StatusNotFound, "there is no web"})),
		"/v1/broken":  show(nil, errors.New("it broke")),
		"/v1/strange": show(make(chan int), nil),
	})
	for _, c := range []struct {
		path   string
		query  url.Values
		status int
		want   string
	}{
		{"/v1/missing", nil, 404, "there is no web"},
		{"/v1/broken", nil, 500, "it broke"},
		{"/v1/strange", nil, 500, "unsupported type"},
		{"/v1/unknown", nil, 404, `there is no "/v1/unknown"`},
		{"/v1/missing/", nil, 404, `there is no "/v1/missing/"`},
		{"/v1/missing", url.Values{"nmae": {"web"}}, 400, `/v1/missing has no parameter "nmae", only: name`},
	} {
		var answer *Error
		err := Get(t.Context(), socket, c.path, c.query, new(any))
		if !errors.As(err, &answer) || answer.Status != c.status || !strings.Contains(answer.Message, c.want) {
			t.Errorf("%s: %v, want %d %s", c.path, err, c.status, c.want)
		}
	}
}

// dialing is a client of a socket.
func dialing(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func TestNothingIsChangedByAnyMethod(t *testing.T) {
	socket := serve(t, map[string]View{"/v1/status": show("good", nil)})
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		request, _ := http.NewRequestWithContext(t.Context(), method, "http://usher/v1/status", nil)
		response, err := dialing(socket).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" || !strings.Contains(string(body), `{"error":`) {
			t.Errorf("%s: %s %v %s", method, response.Status, response.Header, body)
		}
	}
}

func TestWhoMayConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "run", "usher.sock")
	serveAt(t, path, nil)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its directory is %v, %v", info.Mode(), err)
	}
}

func TestASocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if err := Get(t.Context(), path, "/v1/status", nil, new(any)); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "was left by a usher that runs no more") {
		t.Errorf("before: %v", err)
	}
	server := serveAt(t, path, map[string]View{"/v1/status": show("good", nil)})
	if err := Get(t.Context(), path, "/v1/status", nil, new(any)); err != nil {
		t.Errorf("after: %v", err)
	}
	server.Close()
	if err := Get(t.Context(), path, "/v1/status", nil, new(any)); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("at the end: %v", err)
	}
}

func TestALiveSocketIsLeftAlone(t *testing.T) {
	socket := serve(t, map[string]View{"/v1/status": show("good", nil)})
	if _, err := Listen(t.Context(), socket); err == nil || err.Error() != "another process listens to "+socket {
		t.Errorf("a second one: %v", err)
	}
	if err := Get(t.Context(), socket, "/v1/status", nil, new(any)); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

func TestAFileIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path); err == nil || err.Error() != path+" is no socket" {
		t.Errorf("got %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Error("it is gone")
	}
}

func TestTheSocketOfAnotherIsNotRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	first, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	serveAt(t, path, map[string]View{"/v1/status": show("good", nil)})
	first.Close()
	if err := Get(t.Context(), path, "/v1/status", nil, new(any)); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

func TestClientsBeyondTheLimitAreHungUpOn(t *testing.T) {
	socket := serve(t, map[string]View{"/v1/status": show("good", nil)})
	var idle []net.Conn
	for range connectionLimit {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	more, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	more.SetDeadline(time.Now().Add(requestTimeout / 2))
	if _, err := more.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it gets %v", err)
	}
	if err := Get(t.Context(), socket, "/v1/status", nil, new(any)); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "gives no answer") {
		t.Errorf("it is told %v", err)
	}
	idle[0].Close()
	for deadline := time.Now().Add(requestTimeout / 2); ; {
		if err = Get(t.Context(), socket, "/v1/status", nil, new(any)); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestPathsThatCannotBe(t *testing.T) {
	for path, want := range map[string]string{
		"usher.sock":                       "want an absolute path",
		"":                                 "want an absolute path",
		"/run/" + strings.Repeat("x", 103): "want at most 107 bytes",
		"/run/" + strings.Repeat("x", 102): "",
		"/run/usher/usher.sock":            "",
	} {
		if err := CheckPath(path); fmt.Sprint(err) != want && !(err == nil && want == "") {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	longest := "/tmp/" + strings.Repeat("x", 102)
	l, err := Listen(t.Context(), longest)
	if err != nil {
		t.Fatalf("the longest path: %v", err)
	}
	l.Close()
}

func TestDefaultSocket(t *testing.T) {
	if os.Geteuid() == 0 {
		if got := DefaultSocket(); got != "/run/usher/usher.sock" {
			t.Errorf("of root: %s", got)
		}
		return
	}
	for dir, want := range map[string]string{"/run/user/7": "/run/user/7/usher.sock", "": "", "relative": ""} {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		if got := DefaultSocket(); got != want {
			t.Errorf("XDG_RUNTIME_DIR=%s: %s, want %s", dir, got, want)
		}
	}
}

// An action is done by POST only, and only for those who may.
func TestAnAction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	server, ended := API{Actions: map[string]Action{"/v1/repair": {Parameters: []string{"family"}, Do: func(_ context.Context, q url.Values) (any, error) {
		done++
		return q.Get("family"), nil
	}}}}.Server(), make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	var got string
	if err := Post(t.Context(), path, "/v1/repair", url.Values{"family": {"IPv4"}}, &got); err != nil || got != "IPv4" {
		t.Errorf("got %q, %v", got, err)
	}
	var answer *Error
	if err := Get(t.Context(), path, "/v1/repair", nil, &got); !errors.As(err, &answer) || answer.Status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v", err)
	}
	if err := Post(t.Context(), path, "/v1/repair", url.Values{"familie": {"IPv4"}}, &got); !errors.As(err, &answer) || answer.Status != http.StatusBadRequest {
		t.Errorf("a parameter that is none: %v", err)
	}
	if done != 1 {
		t.Errorf("it was done %d times", done)
	}
}

func TestWhoMayChange(t *testing.T) {
	other := uint32(os.Geteuid() + 1)
	for uid, want := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, other: false} {
		if got := mayChange(context.WithValue(t.Context(), peer{}, uid)); got != want {
			t.Errorf("user %d: %v", uid, got)
		}
	}
	if mayChange(t.Context()) {
		t.Error("somebody who is not known may")
	}
}
