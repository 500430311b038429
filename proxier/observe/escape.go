package observe

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// EscapeJSON returns JSON in which everything that is not printable is escaped.
// encoding/json leaves DEL, the controls of ISO 6429 beyond ASCII (one of which, U+009B,
// begins a command to a terminal as ESC [ does) and what turns the direction of
// writing. JSON that has none of these is returned as it is; line breaks and tabs between
// its parts stay.
func EscapeJSON(text []byte) []byte {
	if plain(text) {
		return text
	}
	b := make([]byte, 0, len(text)+32)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		b = appendJSONRune(b, r, text[:n])
		text = text[n:]
	}
	return b
}

// plain says whether all of it is ASCII without DEL.
func plain(text []byte) bool {
	for _, c := range text {
		if c >= 0x7f {
			return false
		}
	}
	return true
}

func appendJSONRune(b []byte, r rune, as []byte) []byte {
	switch {
	case r < 0x7f || unicode.IsPrint(r) && len(as) > 1:
		return append(b, as...) // of ASCII encoding/json has escaped what has to be
	case r <= 0xffff:
		return fmt.Appendf(b, `\u%04x`, r)
	}
	high, low := utf16.EncodeRune(r)
	return fmt.Appendf(b, `\u%04x\u%04x`, high, low)
}

// Printable is a text with a question mark for everything in it that is not printable,
// such as commands to a terminal, and line breaks: what names and messages that come from
// elsewhere need before somebody prints them.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
