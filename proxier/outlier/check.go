package outlier

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	// probeTimeout bounds the connection attempt of a probe.
	probeTimeout = 2 * time.Second
	// answerBytes is how much of an answer is searched for what is expected.
	answerBytes = 4096
	// httpBytes is how much of an HTTP answer is read, header and body.
	httpBytes = 64 << 10
	// bodyTime is how long the rest of an HTTP answer is read for, so that a server
	// that is about to send it meets no reset.
	bodyTime = 100 * time.Millisecond
)

// DialFunc connects to an endpoint; network is tcp or udp. It ends when ctx does.
type DialFunc func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)

// probe is what an endpoint is asked that has no check.
var probe = Check{Kind: CheckTCP, Timeout: probeTimeout}

// ask asks the endpoint at addr once whether it is well. An error is what speaks
// against it, or against this process: see isOurs.
func (c Check) ask(ctx context.Context, dial DialFunc, addr netip.AddrPort, proxyProtocol byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	network, to := "tcp", addr
	if c.Kind == CheckUDP {
		network = "udp"
	}
	if c.Port != 0 {
		to = netip.AddrPortFrom(addr.Addr(), c.Port)
	}
	conn, err := dial(ctx, network, to)
	if err != nil {
		return c.explain(ctx, "no connection", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if to == addr && network == "tcp" {
		if err := announce(conn, proxyProtocol); err != nil {
			return c.explain(ctx, "the PROXY protocol header was not taken", err)
		}
	}
	return c.explain(ctx, "no answer", c.talk(conn, to))
}

// explain words an error that came of time, and keeps others.
func (c Check) explain(ctx context.Context, what string, err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s within %s", what, c.Timeout)
	}
	return err
}

// announce tells an endpoint that this connection is for no client.
func announce(conn net.Conn, version byte) error {
	if version == 0 {
		return nil
	}
	_, err := proxyproto.HeaderProxyFromAddrs(version, nil, nil).WriteTo(conn)
	return err
}

func (c Check) talk(conn net.Conn, to netip.AddrPort) error {
	switch c.Kind {
	case CheckHTTP:
		return c.get(conn, to)
	case CheckUDP:
		return c.exchange(conn)
	}
	if len(c.Send) > 0 {
		if _, err := conn.Write(c.Send); err != nil {
			return err
		}
	}
	return c.await(conn)
}

// await reads until what is expected has come, in however many pieces.
func (c Check) await(conn net.Conn) error {
	if len(c.Expect) == 0 {
		return nil
	}
	answer := make([]byte, 0, answerBytes)
	for len(answer) < answerBytes {
		n, err := conn.Read(answer[len(answer):answerBytes])
		answer = answer[:len(answer)+n]
		switch {
		case bytes.Contains(answer, c.Expect):
			return nil
		case err == io.EOF:
			return fmt.Errorf("it closed after %d bytes without the expected answer", len(answer))
		case err != nil:
			return err
		}
	}
	return fmt.Errorf("the first %d bytes of its answer are not the expected ones", answerBytes)
}

// exchange sends one datagram and reads one.
func (c Check) exchange(conn net.Conn) error {
	if _, err := conn.Write(c.Send); err != nil {
		return err
	}
	answer := make([]byte, answerBytes)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer[:n], c.Expect) {
		return errors.New("its answer is not the expected one")
	}
	return nil
}

// get asks by HTTP. Only the status counts, and no redirect is followed.
func (c Check) get(conn net.Conn, to netip.AddrPort) error {
	path := c.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+to.String()+path, nil)
	if err != nil {
		return notAsked{err}
	}
	request.Close = true
	request.Header.Set("User-Agent", "usher-health-check")
	if err := request.Write(conn); err != nil {
		return err
	}
	bounded := &io.LimitedReader{R: conn, N: httpBytes}
	from := bufio.NewReader(bounded)
	for {
		answer, err := http.ReadResponse(from, request)
		switch {
		case err != nil && bounded.N == 0:
			return fmt.Errorf("its HTTP header does not end within %d bytes", httpBytes)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("it closed without an HTTP answer")
		case err != nil:
			return err
		case answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols:
			continue // more will come, within what may be read
		case answer.StatusCode < 200 || answer.StatusCode > 399:
			err = fmt.Errorf("it answered HTTP status %d", answer.StatusCode)
		}
		conn.SetReadDeadline(time.Now().Add(bodyTime))
		io.Copy(io.Discard, answer.Body)
		return err
	}
}

// notAsked is why a check could not be made at all.
type notAsked struct{ error }

// isOurs tells an error that says nothing of the endpoint: the check was cancelled,
// or the fault is this process's own. An errno that nothing on the way to an
// endpoint causes is of that kind.
func isOurs(err error) bool {
	if errors.Is(err, context.Canceled) || errors.As(err, &notAsked{}) {
		return true
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch observe.ReasonOf(errno) {
	case observe.BackendRefused, observe.BackendResetEarly, observe.BackendUnreachable:
		return false
	}
	switch errno {
	case unix.ETIMEDOUT, unix.EPIPE, unix.ENOPROTOOPT, unix.EPROTO, unix.ECONNABORTED:
		return false // ENOPROTOOPT is ICMP's protocol unreachable
	}
	return true
}
