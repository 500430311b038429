package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// holdEnv makes the test binary a holder: it says how many connections, and to which address.
const holdEnv = "USHER_BENCH_HOLD"

// A holding is what a holder tells once it has opened its connections.
type holding struct {
	Held  int
	Error string // of the first that it could not open
}

// holdIfAsked is the holder, a process of its own with its own limit of files: it opens
// connections, has one request answered on each, and holds them until its input ends. It returns
// only in a process that is none.
func holdIfAsked() {
	value := os.Getenv(holdEnv)
	if value == "" {
		return
	}
	if err := holdConnections(value); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func holdConnections(value string) error {
	var n int
	var text string
	if _, err := fmt.Sscanf(value, "%d %s", &n, &text); err != nil {
		return fmt.Errorf("%s=%q: %w", holdEnv, value, err)
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return err
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	h := openAndAsk(n, addr)
	if err := json.NewEncoder(os.Stdout).Encode(h); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// refusals in a row end the opening: a proxy at its limit refuses all that come.
const refusals = 20

// openAndAsk opens connections one after the other, as far as there are answers. The sockets are
// left open for as long as the process lives.
func openAndAsk(n int, addr netip.AddrPort) (h holding) {
	failed := 0
	for h.Held < n && failed < refusals {
		err := openAndAskOnce(addr)
		if err == nil {
			h.Held++
			failed = 0
			continue
		}
		failed++
		if h.Error == "" {
			h.Error = fmt.Sprintf("connection %d: %v", h.Held+1, err)
		}
	}
	return h
}

// openAndAskOnce leaves a socket open if it is answered. It uses no net.Conn: that would add
// an entry of an epoll set to the kernel's memory.
func openAndAskOnce(addr netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := askOn(fd, addr); err != nil {
		unix.Close(fd)
		return err
	}
	return nil
}

func askOn(fd int, addr netip.AddrPort) error {
	patience := unix.NsecToTimeval(int64(5 * time.Second)) // of connect and write, and of read
	err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	err = uninterrupted(func() error { return unix.Connect(fd, to) })
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return exchangeHTTP(blocking(fd))
}

// uninterrupted makes a call again that a signal of Go's runtime has ended. A connect that is
// made again waits on (net/ipv4/af_inet.c of the kernel).
func uninterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// blocking is a blocking socket.
type blocking int

func (fd blocking) Read(p []byte) (n int, err error) {
	err = uninterrupted(func() (err error) { n, err = unix.Read(int(fd), p); return err })
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (fd blocking) Write(p []byte) (n int, err error) {
	err = uninterrupted(func() (err error) { n, err = unix.Write(int(fd), p); return err })
	return max(n, 0), err
}

// A holder is a process of the client that holds idle connections.
type holder struct {
	holding
	cmd   *netns.Cmd
	input io.Closer
}

// holdPatience bounds the opening of all connections.
const holdPatience = time.Minute

// hold starts a holder and waits until it has opened n connections, or what of them can be.
func (l *lab) hold(n int, addr netip.AddrPort) (*holder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := l.client.Command(context.Background(), self)
	c.Env = append(os.Environ(), holdEnv+"="+strconv.Itoa(n)+" "+addr.String())
	c.Stderr = os.Stderr
	input, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	h := &holder{cmd: c, input: input}
	late := time.AfterFunc(holdPatience, func() { c.Process.Kill() })
	defer late.Stop()
	if err := json.NewDecoder(bufio.NewReader(output)).Decode(&h.holding); err != nil {
		return nil, fmt.Errorf("holder of %d connections: %w", n, errors.Join(err, h.release()))
	}
	if h.Held == 0 {
		return nil, fmt.Errorf("holder of %d connections: %w", n, errors.Join(errors.New(h.Error), h.release()))
	}
	if h.Held < n {
		fmt.Printf("holder: %d of %d connections: %s\n", h.Held, n, h.Error)
	}
	return h, nil
}

// release ends the holder and with it its connections.
func (h *holder) release() error { return errors.Join(h.input.Close(), h.cmd.Wait()) }
