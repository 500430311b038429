package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// ErrUnreachable says that nobody answers at the socket.
var ErrUnreachable = errors.New("no usher can be asked")

// Get asks the usher behind a socket for a view and puts it into answer. Its error
// is an *Error if usher has answered that it is none, or is an ErrUnreachable.
func Get(ctx context.Context, socket, path string, query url.Values, answer any) error {
	return ask(ctx, http.MethodGet, socket, path, query, answer)
}

// Post asks the usher behind a socket to do something, as Get asks for a view.
func Post(ctx context.Context, socket, path string, query url.Values, answer any) error {
	return ask(ctx, http.MethodPost, socket, path, query, answer)
}

func ask(ctx context.Context, method, socket, path string, query url.Values, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	response, err := request(ctx, method, socket, path, query)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("the answer of usher at %s: %w", socket, err)
	}
	return nil
}

// maxLine is the longest line of a Feed, in bytes.
const maxLine = 4 << 20

// Stream follows a Feed of the usher behind a socket, by GET or POST: each gets every line
// without its end, valid until it returns, and ends it all by an error. pause, if it is not
// nil, is called before it waits for more, and does the same. There is no limit of time but
// ctx. It returns nil when the feed is over, the error of each, of pause or of ctx, or one as
// Get does; an ErrUnreachable also when usher has gone meanwhile.
func Stream(ctx context.Context, socket, method, path string, query url.Values, each func(line []byte) error, pause func() error) error {
	response, err := request(ctx, method, socket, path, query)
	if err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	defer response.Body.Close()
	body := &pausing{Reader: response.Body, pause: pause}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := faultIn(lines.Bytes()); err != nil {
			return err
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	err = lines.Err()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case body.failed != nil:
		return body.failed
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("the answer of usher at %s: %w", socket, err)
	case err != nil:
		return fmt.Errorf("%w: the usher at %s has gone: %w", ErrUnreachable, socket, err)
	}
	return nil
}

// pausing is a Reader that calls pause before each Read.
type pausing struct {
	io.Reader
	pause  func() error
	failed error // pause has
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.pause != nil {
		if p.failed = p.pause(); p.failed != nil {
			return 0, p.failed
		}
	}
	return p.Reader.Read(b)
}

// faultIn is the error that a feed has ended with, nil if the line is another one.
func faultIn(line []byte) error {
	if !bytes.HasPrefix(line, []byte(`{"error":`)) {
		return nil
	}
	e := &Error{Status: http.StatusInternalServerError}
	if json.Unmarshal(line, e) != nil {
		return nil
	}
	return e
}

// request returns an answer that is one. Its connection is closed with its body.
func request(ctx context.Context, method, socket, path string, query url.Values) (*http.Response, error) {
	transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: time.Minute, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	at := url.URL{Scheme: "http", Host: "usher", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, unreachable(socket, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	e := &Error{Status: response.StatusCode}
	if err := json.NewDecoder(response.Body).Decode(e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("%s: %s", socket, response.Status)
	}
	return nil, e
}

// unreachable says what to do about it.
func unreachable(socket string, err error) error {
	var what string
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err // without the URL, which is none
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what = "does not exist; is usher running, and is its --admin-socket this one?"
	case errors.Is(err, syscall.ECONNREFUSED):
		what = "was left by a usher that runs no more"
	case errors.Is(err, fs.ErrPermission):
		what = "may not be connected to; be root, or in the group usher"
	case errors.As(err, new(stranger)):
		what = err.Error()
	default:
		return fmt.Errorf("%w: %s gives no answer: %w", ErrUnreachable, socket, err)
	}
	return fmt.Errorf("%w: %s %s", ErrUnreachable, socket, what)
}
