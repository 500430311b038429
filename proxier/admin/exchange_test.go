package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exchanging serves an exchange that tells its parameter and sends a file.
func exchanging(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "usher.sock")
	l, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	api := API{Exchanges: map[string]Exchange{"/v1/swap": {Parameters: []string{"name"}, Run: func(_ context.Context, q url.Values, begin func() (*net.UnixConn, error)) error {
		if q.Get("name") == "nobody" {
			return &Error{http.StatusConflict, "there is nobody"}
		}
		conn, err := begin()
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return err
		}
		_, _, err = conn.WriteMsgUnix([]byte(q.Get("name")), unix.UnixRights(1), nil)
		return err
	}}}}
	server, ended := api.Server(), make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return socket
}

// Files go along, and when it is over the connection is.
func TestAnExchange(t *testing.T) {
	socket := exchanging(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := Begin(ctx, socket, "/v1/swap", url.Values{"name": {"web"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	text, rights := make([]byte, 10), make([]byte, 100)
	n, oobn, _, _, err := conn.ReadMsgUnix(text, rights)
	if err != nil || string(text[:n]) != "web" || oobn != unix.CmsgSpace(4) {
		t.Errorf("got %q and %d bytes of rights, %v", text[:n], oobn, err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err == nil {
		var files []int
		if files, err = unix.ParseUnixRights(&messages[0]); err == nil {
			unix.Close(files[0])
		}
	}
	if err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(text); err != io.EOF {
		t.Errorf("afterwards there are %d bytes more, %v", n, err)
	}
}

func TestExchangesThatDoNotBegin(t *testing.T) {
	socket := exchanging(t)
	for _, c := range []struct {
		path   string
		query  url.Values
		status int
		want   string
	}{
		{"/v1/swap", url.Values{"name": {"nobody"}}, 409, "there is nobody"},
		{"/v1/swap", url.Values{"nmae": {"web"}}, 400, "no parameter"},
		{"/v1/swap", url.Values{"name": {""}}, 400, "name is empty"},
		{"/v1/other", nil, 404, "there is no"},
	} {
		_, err := Begin(t.Context(), socket, c.path, c.query)
		var answer *Error
		if !errors.As(err, &answer) || answer.Status != c.status || !strings.Contains(answer.Message, c.want) {
			t.Errorf("%s: %v, want %d %s", c.path, err, c.status, c.want)
		}
	}
	var answer *Error
	if err := Post(t.Context(), socket, "/v1/swap", nil, new(any)); !errors.As(err, &answer) || answer.Status != http.StatusUpgradeRequired {
		t.Errorf("without another protocol: %v", err)
	}
	if err := Get(t.Context(), socket, "/v1/swap", nil, new(any)); !errors.As(err, &answer) || answer.Status != http.StatusMethodNotAllowed {
		t.Errorf("by GET: %v", err)
	}
}

// Something else than usher listens to the socket, nobody does, or there is no socket.
func TestSocketsThatAreNotUshers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "other.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			conn.Read(make([]byte, 1000))
			conn.Write(bytes.Repeat([]byte("?"), 100))
			conn.Close()
		}
	}()
	if there, err := Listened(t.Context(), path); !there || err != nil {
		t.Errorf("somebody listens: %v, %v", there, err)
	}
	if _, err := Begin(t.Context(), path, "/v1/swap", nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("begin: %v", err)
	}
	dead := filepath.Join(dir, "dead.sock")
	left, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	for _, path := range []string{dead, filepath.Join(dir, "none.sock")} {
		if there, err := Listened(t.Context(), path); there || err != nil {
			t.Errorf("%s: somebody listens: %v, %v", path, there, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if there, err := Listened(t.Context(), file); there || err != nil {
		t.Errorf("a file: %v, %v", there, err) // to start says what is wrong with it
	}
}
