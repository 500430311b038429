package annotation

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/usher-proxy/usher/proxier/outlier"
)

// readHealthCheck reads KIND, with @PORT if the check goes to another port of the
// endpoint, and what the kind wants after a colon:
//
//	tcp
//	tcp@9000:send=PING\r\n,expect=PONG
//	http@8081:/ready?deep=1
//	udp:0a1b,expect=0c
//
// It leaves the intervals and counts of into as they are. No value can make a
// check go to anything but the endpoint.
func readHealthCheck(into *outlier.Check, value string) error {
	head, detail, hasDetail := strings.Cut(value, ":")
	kind, portText, hasPort := strings.Cut(head, "@")
	c := outlier.Check{Interval: into.Interval, Timeout: into.Timeout, Rise: into.Rise, Fall: into.Fall}
	if hasPort {
		port, err := strconv.ParseUint(strings.TrimSpace(portText), 10, 16)
		if err != nil || port == 0 {
			return errors.New("want a port from 1 to 65535 after the @")
		}
		c.Port = uint16(port)
	}
	var err error
	switch kind := strings.TrimSpace(kind); {
	case value == "off":
		c.Kind = outlier.CheckOff
	case kind == "tcp":
		c.Kind = outlier.CheckTCP
		if hasDetail {
			err = readTalk(&c, detail)
		}
	case kind == "http":
		c.Kind = outlier.CheckHTTP
		c.Path, err = readPath(detail)
	case kind == "udp":
		c.Kind = outlier.CheckUDP
		err = readDatagram(&c, detail)
	default:
		err = errors.New("want off, tcp, http:/PATH or udp:HEX, each with @PORT before the colon if it is for another port")
	}
	if err != nil {
		return err
	}
	*into = c
	return nil
}

// readTalk reads send=TEXT,expect=TEXT, of which send may be missing: some servers
// speak first.
func readTalk(c *outlier.Check, detail string) error {
	wrong := errors.New(`want tcp:send=TEXT,expect=TEXT or tcp:expect=TEXT, with \r \n \t \, \\ and \xHH for what cannot be written in TEXT`)
	texts := map[string][]byte{}
	for _, item := range splitEscaped(detail) {
		name, text, _ := strings.Cut(strings.TrimSpace(item), "=")
		unescaped, ok := unescape(text)
		if texts[name] != nil || !ok || len(unescaped) == 0 || name != "send" && name != "expect" {
			return wrong
		}
		texts[name] = unescaped
	}
	if texts["expect"] == nil {
		return wrong
	}
	c.Send, c.Expect = texts["send"], texts["expect"]
	return nil
}

// splitEscaped splits at commas without a backslash before them.
func splitEscaped(list string) (all []string) {
	start := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '\\':
			i++ // whatever it is
		case ',':
			all = append(all, list[start:i])
			start = i + 1
		}
	}
	return append(all, list[start:])
}

var escapes = map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', ',': ',', '\\': '\\'}

func unescape(text string) (plain []byte, ok bool) {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			plain = append(plain, text[i])
			continue
		}
		i++
		switch {
		case i == len(text):
			return nil, false
		case escapes[text[i]] != 0:
			plain = append(plain, escapes[text[i]])
		case text[i] == 'x' && i+2 < len(text):
			b, err := hex.DecodeString(text[i+1 : i+3])
			if err != nil {
				return nil, false
			}
			plain = append(plain, b...)
			i += 2
		default:
			return nil, false
		}
	}
	return plain, true
}

// readPath refuses what a request line cannot hold, and what could be taken for a
// host.
func readPath(path string) (string, error) {
	path = strings.TrimSpace(path)
	plain := strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) < 0
	if _, err := url.ParseRequestURI(path); err != nil || !plain || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return "", fmt.Errorf("want http:/PATH, with %%HH for what cannot be written in a URL")
	}
	return path, nil
}

// readDatagram reads HEX, and HEX,expect=HEX.
func readDatagram(c *outlier.Check, detail string) error {
	sendText, rest, hasMore := strings.Cut(detail, ",")
	expectText, isExpect := strings.CutPrefix(strings.TrimSpace(rest), "expect=")
	send, err := hex.DecodeString(strings.TrimSpace(sendText))
	expect, expectErr := hex.DecodeString(expectText)
	if err != nil || len(send) == 0 || hasMore && (!isExpect || expectErr != nil || len(expect) == 0) {
		return errors.New("want udp:HEX or udp:HEX,expect=HEX, with the bytes of a datagram in hexadecimal digits")
	}
	if c.Send = send; hasMore {
		c.Expect = expect
	}
	return nil
}
