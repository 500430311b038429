package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

type send = func([]byte) error

// feed serves one at a new socket until the test ends.
func feed(t *testing.T, f Feed, patience time.Duration, change ...func(*http.Server)) (path string, server *http.Server) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "usher.sock")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	server, ended := API{Feeds: map[string]Feed{"/v1/feed": f}, patience: patience}.Server(), make(chan struct{})
	for _, c := range change {
		c(server)
	}
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return path, server
}

func lines(t *testing.T, socket, method string, q url.Values) (all []string, err error) {
	t.Helper()
	err = Stream(t.Context(), socket, method, "/v1/feed", q, func(line []byte) error {
		all = append(all, string(line))
		return nil
	}, nil)
	return all, err
}

func TestAFeed(t *testing.T) {
	next := make(chan struct{})
	socket, _ := feed(t, Feed{Parameters: []string{"last"}, Run: func(ctx context.Context, q url.Values, send send) error {
		send([]byte("{\"last\":" + q.Get("last") + "}\n{\"n\":1}\n"))
		<-next // the first lines come before there are others
		return send([]byte("{\"n\":2}\n"))
	}}, 0)
	var got []string
	err := Stream(t.Context(), socket, "GET", "/v1/feed", url.Values{"last": {"7"}}, func(line []byte) error {
		if got = append(got, string(line)); len(got) == 2 {
			close(next)
		}
		return nil
	}, nil)
	if want := `{"last":7} {"n":1} {"n":2}`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %v, %v", got, err)
	}
	mine := errors.New("enough")
	next = make(chan struct{})
	if err := Stream(t.Context(), socket, "GET", "/v1/feed", url.Values{"last": {"7"}}, func([]byte) error { return mine }, nil); err != mine {
		t.Errorf("who has enough gets %v", err)
	}
	close(next)
}

func TestAFeedWithoutLinesBegins(t *testing.T) {
	begun := make(chan struct{})
	socket, _ := feed(t, Feed{Run: func(ctx context.Context, _ url.Values, send send) error {
		if err := send(nil); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}, 0)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		response, err := request(ctx, "GET", socket, "/v1/feed", nil)
		if err != nil {
			t.Error(err)
		} else {
			defer response.Body.Close()
		}
		close(begun)
		<-ctx.Done()
	}()
	select {
	case <-begun:
	case <-time.After(requestTimeout):
		t.Error("there is no answer")
	}
	cancel()
}

func TestFeedsThatFail(t *testing.T) {
	socket, _ := feed(t, Feed{Parameters: []string{"at"}, Run: func(_ context.Context, q url.Values, send send) error {
		if q.Get("at") == "once" {
			return &Error{http.StatusBadRequest, "it cannot be"}
		}
		send([]byte("{}\n"))
		return errors.New("it broke \u009b")
	}}, 0)
	var answer *Error
	if _, err := lines(t, socket, "GET", url.Values{"at": {"once"}}); !errors.As(err, &answer) || answer.Status != 400 || answer.Message != "it cannot be" {
		t.Errorf("at once: %v", err)
	}
	if got, err := lines(t, socket, "GET", nil); !errors.As(err, &answer) || !strings.HasPrefix(answer.Message, "it broke") || len(got) != 1 {
		t.Errorf("later: %v, %v", got, err)
	}
	for _, c := range []struct {
		method string
		q      url.Values
		status int
	}{{"POST", nil, 405}, {"GET", url.Values{"lats": {"1"}}, 400}} {
		if _, err := lines(t, socket, c.method, c.q); !errors.As(err, &answer) || answer.Status != c.status {
			t.Errorf("%s %v: %v", c.method, c.q, err)
		}
	}
	response, err := dialing(socket).Head("http://usher/v1/feed")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("HEAD: %v", response)
	}
}

func TestAFeedThatChangesSomethingTakesAPost(t *testing.T) {
	socket, _ := feed(t, Feed{Change: true, Run: func(_ context.Context, _ url.Values, send send) error { return send([]byte("{}\n")) }}, 0)
	var answer *Error
	if _, err := lines(t, socket, "GET", nil); !errors.As(err, &answer) || answer.Status != 405 {
		t.Errorf("GET: %v", err)
	}
	if got, err := lines(t, socket, "POST", nil); err != nil || len(got) != 1 {
		t.Errorf("POST: %v, %v", got, err)
	}
	h, w := handler{API{Feeds: map[string]Feed{"/": {Change: true}}}, new(followers)}, new(recorder)
	h.ServeHTTP(w, mustRequest("POST", "/"))
	if w.status != http.StatusForbidden {
		t.Errorf("somebody who is not known gets %d", w.status)
	}
}

type recorder struct {
	header http.Header
	status int
	bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}
func (r *recorder) WriteHeader(status int) { r.status = status }

func mustRequest(method, path string) *http.Request {
	r, err := http.NewRequest(method, path, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// waits is a feed that says when somebody comes and goes.
func waits(came, went chan<- struct{}) Feed {
	return Feed{Run: func(ctx context.Context, _ url.Values, send send) error {
		if err := send(nil); err != nil {
			return err
		}
		came <- struct{}{}
		<-ctx.Done()
		went <- struct{}{}
		return nil
	}}
}

func receive(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(requestTimeout):
		t.Fatal(what)
	}
}

func TestFollowersBeyondTheLimit(t *testing.T) {
	came, went := make(chan struct{}, maxFollowers+1), make(chan struct{}, maxFollowers+1)
	socket, _ := feed(t, waits(came, went), 0)
	var all sync.WaitGroup
	first, leave := context.WithCancel(t.Context())
	rest, end := context.WithCancel(t.Context())
	for i := range maxFollowers {
		ctx := rest
		if i == 0 {
			ctx = first
		}
		all.Go(func() {
			if err := Stream(ctx, socket, "GET", "/v1/feed", nil, func([]byte) error { return nil }, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("a follower gets %v", err)
			}
		})
	}
	for range maxFollowers {
		receive(t, came, "not all may follow")
	}
	var answer *Error
	if _, err := lines(t, socket, "GET", nil); !errors.As(err, &answer) || answer.Status != http.StatusServiceUnavailable {
		t.Errorf("one more gets %v", err)
	}
	leave()
	receive(t, went, "nobody notices that one has gone")
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		for ctx.Err() == nil { // its place is free in a moment
			Stream(ctx, socket, "GET", "/v1/feed", nil, func([]byte) error { return nil }, nil)
		}
	})
	receive(t, came, "there is no room again")
	cancel()
	end()
	all.Wait()
}

// The time for a request is over long before this feed is.
func TestAFeedLastsLongerThanARequestMay(t *testing.T) {
	went := make(chan struct{}, 1)
	f := Feed{Run: func(ctx context.Context, _ url.Values, send send) error {
		for i := range 4 {
			select {
			case <-ctx.Done():
				went <- struct{}{}
				return nil
			case <-time.After(100 * time.Millisecond):
			}
			if err := send(fmt.Appendf(nil, "%d\n", i)); err != nil {
				return err
			}
		}
		return nil
	}}
	socket, _ := feed(t, f, 0, func(s *http.Server) { s.ReadTimeout, s.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond })
	if got, err := lines(t, socket, "GET", nil); err != nil || len(got) != 4 {
		t.Errorf("got %v, %v", got, err)
	}
	if len(went) > 0 {
		t.Error("it was taken for one that has gone")
	}
}

func TestWhoStopsReadingIsHungUpOn(t *testing.T) {
	ended := make(chan error, 1)
	socket, _ := feed(t, Feed{Run: func(ctx context.Context, _ url.Values, send send) error {
		line := []byte(strings.Repeat("x", 1<<16) + "\n")
		for {
			if err := send(line); err != nil {
				ended <- err
				return err
			}
		}
	}}, 200*time.Millisecond)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /v1/feed HTTP/1.1\r\nHost: usher\r\n\r\n")
	bufio.NewReader(c).ReadString('\n')
	select {
	case err := <-ended:
		if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("it ends by %v", err)
		}
	case <-time.After(requestTimeout):
		t.Error("it is waited for without an end")
	}
}

func TestAFeedEndsWithItsServer(t *testing.T) {
	came, went := make(chan struct{}, 1), make(chan struct{}, 1)
	socket, server := feed(t, waits(came, went), 0)
	ended := make(chan error, 1)
	go func() {
		_, err := lines(t, socket, "GET", nil)
		ended <- err
	}()
	receive(t, came, "it does not begin")
	server.Close()
	receive(t, went, "it goes on")
	if err := <-ended; !errors.Is(err, ErrUnreachable) {
		t.Errorf("who follows gets %v", err)
	}
}

func TestNothingIsLeftInJSONThatATerminalObeys(t *testing.T) {
	socket := serve(t, map[string]View{"/v1/names": show([]string{"a\u009bb\u202e\x7f", "ü"}, nil)})
	response, err := dialing(socket).Get("http://usher/v1/names")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	body.ReadFrom(response.Body)
	if want := `["a\u009bb\u202e\u007f","ü"]` + "\n"; body.String() != want {
		t.Errorf("got %q, want %q", body.String(), want)
	}
}
