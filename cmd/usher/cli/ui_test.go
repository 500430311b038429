package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

func statusOnly() map[string]admin.View {
	return map[string]admin.View{"/v1/status": {Show: func(url.Values) (any, error) { return admin.Status{Node: "node-1"}, nil }}}
}

// The first line that it prints is an address that works, until it is stopped.
func TestUI(t *testing.T) {
	socket := adminSocket(t, statusOnly(), nil)
	ctx, stop := context.WithCancel(t.Context())
	root := newRoot(nil)
	out, in := io.Pipe()
	var messages bytes.Buffer
	root.SetOut(in)
	root.SetErr(&messages)
	root.SetArgs([]string{"ui", "--admin-socket=" + socket})
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusSeeOther || len(response.Cookies()) != 1 {
		t.Errorf("%s answers %s", address, response.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(messages.String(), "works once") || strings.Contains(messages.String(), "--timeout") {
		t.Errorf("it says %s", &messages)
	}
}

func TestUIEndsByItself(t *testing.T) {
	socket := adminSocket(t, statusOnly(), nil)
	out, messages, err := executed(t, []string{"ui", "--timeout=10ms", "--admin-socket=" + socket})
	if err != nil || !strings.HasPrefix(out, "http://127.0.0.1:") || !strings.Contains(messages, "The page has ended after 10ms, as --timeout says.") {
		t.Errorf("it says, with %v, %s%s", err, out, messages)
	}
}

func TestUIThatCannotBe(t *testing.T) {
	socket := adminSocket(t, statusOnly(), nil)
	for _, args := range [][]string{{"--listen=0.0.0.0:80"}, {"--listen=nonsense"}, {"--timeout=-1s"}, {"now"}} {
		if _, _, err := executed(t, append([]string{"ui", "--admin-socket=" + socket}, args...)); !isUsage(err) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, _, err := executed(t, []string{"ui", "--admin-socket=/nowhere/usher.sock"}); !errors.Is(err, admin.ErrUnreachable) {
		t.Errorf("without usher: %v", err)
	}
}
