package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

// Exchange is what two processes do at a path once they have left HTTP (101 Switching
// Protocols, RFC 9110 7.8), as only so can files go along (unix(7)). It takes a POST, and
// root.
type Exchange struct {
	Parameters []string // of the query
	// Run calls begin, which leaves HTTP, once; until then an error is an answer as that of a
	// View. The connection has no deadline, is closed after Run, and it is for the client
	// to say something first: its last read as HTTP would swallow files.
	Run func(ctx context.Context, query url.Values, begin func() (*net.UnixConn, error)) error
}

// exchangeProtocol is how both call what they go over to.
const exchangeProtocol = "usher-files"

// serveExchange returns the error of one that has not begun.
func (h handler) serveExchange(w http.ResponseWriter, r *http.Request, e Exchange) error {
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return &Error{http.StatusMethodNotAllowed, fmt.Sprintf("%s is for POST", r.URL.Path)}
	case !mayChange(r.Context()):
		return errNotRoot
	case r.Header.Get("Upgrade") != exchangeProtocol:
		w.Header().Set("Upgrade", exchangeProtocol)
		return &Error{http.StatusUpgradeRequired, fmt.Sprintf("%s is for usher itself, which asks for Upgrade: %s", r.URL.Path, exchangeProtocol)}
	}
	query, err := choices(r, e.Parameters)
	if err != nil {
		return err
	}
	var conn *net.UnixConn
	err = e.Run(r.Context(), query, func() (_ *net.UnixConn, err error) {
		conn, err = switchProtocols(w)
		return conn, err
	})
	if conn == nil {
		return err
	}
	conn.Close()
	return nil
}

func switchProtocols(w http.ResponseWriter) (*net.UnixConn, error) {
	hijacked, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	conn, ok := hijacked.(*net.UnixConn)
	if !ok {
		hijacked.Close()
		return nil, errors.New("this is no unix socket")
	}
	conn.SetDeadline(time.Now().Add(requestTimeout))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", exchangeProtocol)
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// Begin asks the usher behind a socket for an Exchange. The deadline of ctx is that of the
// connection, which is the caller's. An error is one as that of Get.
func Begin(ctx context.Context, socket, path string, query url.Values) (*net.UnixConn, error) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return nil, unreachable(socket, err)
	}
	if err := begin(conn, path, query); err != nil {
		conn.Close()
		var answer *Error
		if !errors.As(err, &answer) {
			err = unreachable(socket, err)
		}
		return nil, err
	}
	return conn, nil
}

// dial connects, if it is root who listens, or the user whom this process runs as: anybody
// else could hand over anything.
func dial(ctx context.Context, socket string) (*net.UnixConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	cred, err := credentials(conn)
	if err == nil && cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) {
		err = stranger(cred.Uid)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// stranger is another user who listens.
type stranger uint32

func (s stranger) Error() string {
	return fmt.Sprintf("is that of user %d, who is neither root nor the own one", uint32(s))
}

func begin(conn *net.UnixConn, path string, query url.Values) error {
	at := url.URL{Scheme: "http", Host: "usher", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequest(http.MethodPost, at.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", exchangeProtocol)
	if err := request.Write(conn); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	e := &Error{Status: response.StatusCode}
	if err := json.NewDecoder(response.Body).Decode(e); err != nil || e.Message == "" {
		e.Message = "the answer is " + response.Status
	}
	return e
}

// Listened says whether somebody listens to a socket. It is an error if that is not known, or
// if it is not for this process to ask there.
func Listened(ctx context.Context, socket string) (bool, error) {
	conn, err := dial(ctx, socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return false, nil
	case err != nil:
		return false, unreachable(socket, err)
	}
	return true, conn.Close()
}
