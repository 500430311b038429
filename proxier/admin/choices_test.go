package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// What somebody did not mean to leave out must not widen a change.
func TestAChangeThatSaysLessThanItMeans(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"id", "client", "service"}
	done := make(chan url.Values, 100)
	server, ended := API{
		Views: map[string]View{"/v1/connections": {Parameters: known, Show: func(q url.Values) (any, error) { return q, nil }}},
		Actions: map[string]Action{"/v1/kill": {Parameters: known, Do: func(_ context.Context, q url.Values) (any, error) {
			done <- q
			return q, nil
		}}},
		Feeds: map[string]Feed{"/v1/trace": {Parameters: known, Change: true, Run: func(_ context.Context, q url.Values, send func([]byte) error) error {
			done <- q
			return send(nil)
		}}},
	}.Server(), make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })

	for query, want := range map[string]string{
		"client=&service=a/b":                "client is empty",
		"service=a/b&service=a/c":            "service is there 2 times",
		"service=a/b&id=":                    "id is empty",
		"id=1&id=2&client=10.0.0.1&service=": "service is empty",
	} {
		for _, at := range []string{"/v1/kill", "/v1/trace"} {
			q, _ := url.ParseQuery(query)
			var answer *Error
			if err := Post(t.Context(), path, at, q, new(any)); !errors.As(err, &answer) || answer.Status != 400 || !strings.Contains(answer.Message, want) {
				t.Errorf("%s?%s: %v, want %s", at, query, err, want)
			}
		}
	}
	for _, at := range []string{"/v1/kill", "/v1/trace"} { // as curl -d sends it
		response, err := dialing(path).Post("http://usher"+at+"?client=10.0.0.1", "application/x-www-form-urlencoded", bytes.NewBufferString("service=a/b"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "a body is not read") {
			t.Errorf("%s: %s %s", at, response.Status, body)
		}
	}
	if len(done) > 0 {
		t.Fatalf("done with %v", <-done)
	}
	if err := Post(t.Context(), path, "/v1/kill", url.Values{"id": {"1", "2"}}, new(any)); err != nil || len((<-done)["id"]) != 2 {
		t.Errorf("several ids: %v", err)
	}
	if err := Get(t.Context(), path, "/v1/connections", url.Values{"client": {""}}, new(any)); err != nil {
		t.Errorf("who reads may leave something empty: %v", err)
	}
}
