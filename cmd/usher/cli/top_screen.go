package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// What a terminal is told (console_codes(4), XTerm Control Sequences).
const (
	// The other screen, without a cursor, and without new lines at the right margin.
	beginScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	endScreen   = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	toStart     = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// screen is a terminal that is used as a whole.
type screen struct {
	in, out *os.File
	before  *term.State
	once    sync.Once
}

// openScreen takes the terminal over until close.
func openScreen(in, out *os.File) (*screen, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("the terminal cannot be used: %w", err)
	}
	s := &screen{in: in, out: out, before: before}
	if _, err := io.WriteString(out, beginScreen); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close leaves the terminal as it was.
func (s *screen) close() (err error) {
	s.once.Do(func() {
		_, failed := io.WriteString(s.out, endScreen)
		err = errors.Join(failed, term.Restore(int(s.in.Fd()), s.before))
	})
	return err
}

// The size of a terminal that does not tell it.
const (
	usualWidth  = 80
	usualHeight = 24
)

func (s *screen) draw(t *topModel, paint painter) error {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = usualWidth, usualHeight
	}
	var b strings.Builder
	b.WriteString(toStart)
	for i, line := range t.frame(width, height, paint) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(eraseLine + line) // behind it, the last column would be erased
	}
	b.WriteString(eraseBelow)
	_, err = io.WriteString(s.out, b.String())
	return err
}

// keys are those that are pressed, until ctx ends or the terminal is gone.
func (s *screen) keys(ctx context.Context) (keys <-chan string, end <-chan error) {
	c := make(chan string)
	return c, guarded(func() error {
		// A pipe wakes the reader, as a read of a terminal has no other end.
		woken, wake, err := os.Pipe()
		if err != nil {
			return err
		}
		defer woken.Close()
		stop := context.AfterFunc(ctx, func() { wake.Close() })
		defer func() {
			if stop() {
				wake.Close()
			}
		}()
		room := make([]byte, 256)
		for {
			fds := []unix.PollFd{{Fd: int32(s.in.Fd()), Events: unix.POLLIN}, {Fd: int32(woken.Fd()), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("poll of the terminal: %w", err)
			}
			if ctx.Err() != nil {
				return nil
			}
			if fds[0].Revents == 0 {
				continue
			}
			n, err := unix.Read(int(s.in.Fd()), room)
			switch {
			case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
				continue
			case err != nil || n == 0:
				return nil // the terminal has gone
			}
			for _, key := range keysIn(room[:n]) {
				select {
				case <-ctx.Done():
					return nil
				case c <- key:
				}
			}
		}
	})
}

// sequences are what keys send that are no characters (console_codes(4), xterm).
var sequences = map[string]string{
	"[A": "up", "[B": "down", "OA": "up", "OB": "down", "[5~": "pgup", "[6~": "pgdn",
	"[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end", "[7~": "home", "[8~": "end",
}

// keysIn are the keys that were pressed to send this.
func keysIn(b []byte) (keys []string) {
	for len(b) > 0 {
		if b[0] == 0x1b {
			n := sequence(b[1:])
			if key := sequences[string(b[1:1+n])]; key != "" {
				keys = append(keys, key)
			} else if n == 0 {
				keys = append(keys, "esc")
			}
			b = b[1+n:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		b = b[n:]
		switch {
		case r == 3:
			keys = append(keys, "ctrl-c")
		case r == '\t':
			keys = append(keys, "tab")
		case r == '\r' || r == '\n':
			keys = append(keys, "enter")
		case r == 8 || r == 127:
			keys = append(keys, "backspace")
		case unicode.IsPrint(r):
			keys = append(keys, string(r))
		}
	}
	return keys
}

// sequence is how long one is that begins here, behind ESC; 0: there is none.
func sequence(b []byte) int {
	switch {
	case len(b) < 2 || b[0] != '[' && b[0] != 'O':
		return 0
	case b[0] == 'O':
		return 2
	}
	for i, c := range b[1:] {
		if c >= 0x40 && c <= 0x7e { // the final byte (ECMA-48, 5.4)
			return i + 2
		}
	}
	return len(b)
}
