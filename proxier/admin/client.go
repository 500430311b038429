package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	body := json.NewDecoder(response.Body)
	if response.StatusCode != http.StatusOK {
		e := &Error{Status: response.StatusCode}
		if err := body.Decode(e); err != nil || e.Message == "" {
			e.Message = fmt.Sprintf("%s: %s", socket, response.Status)
		}
		return e
	}
	if err := body.Decode(answer); err != nil {
		return fmt.Errorf("the answer of usher at %s: %w", socket, err)
	}
	return nil
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
