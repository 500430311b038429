package admin

import (
	"bufio"
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
	return request(ctx, method, socket, path, query, func(body io.Reader) error {
		if err := json.NewDecoder(body).Decode(answer); err != nil {
			return fmt.Errorf("the answer of usher at %s: %w", socket, err)
		}
		return nil
	})
}

// lineBytes is how long a line of a stream may be.
const lineBytes = 1 << 20

// Stream asks as Get or Post does, by the method, for an answer of many lines, and calls
// each with every line as it comes, until usher ends the answer, each returns an error,
// which is returned, or ctx ends. The line is valid until each returns.
func Stream(ctx context.Context, socket, method, path string, query url.Values, each func(line []byte) error) error {
	return request(ctx, method, socket, path, query, func(body io.Reader) error {
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, lineBytes)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				continue
			}
			if err := each(lines.Bytes()); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("%w: its answer at %s has broken off: %w", ErrUnreachable, socket, err)
		}
		return nil
	})
}

// request has read read the answer, if it is one.
func request(ctx context.Context, method, socket, path string, query url.Values, read func(io.Reader) error) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	at := url.URL{Scheme: "http", Host: "usher", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return unreachable(socket, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		e := &Error{Status: response.StatusCode}
		if err := json.NewDecoder(response.Body).Decode(e); err != nil || e.Message == "" {
			e.Message = fmt.Sprintf("%s: %s", socket, response.Status)
		}
		return e
	}
	return read(response.Body)
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
	default:
		return fmt.Errorf("%w: %s gives no answer: %w", ErrUnreachable, socket, err)
	}
	return fmt.Errorf("%w: %s %s", ErrUnreachable, socket, what)
}
