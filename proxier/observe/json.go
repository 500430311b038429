package observe

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// entryFields are those that a line has besides the fields of its record.
var entryFields = []field{entryField("ts", kindTime), entryField("level", kindLevel), entryField("msg", kindMessage)}

var jsonFields = ordered(entryFields, slices.Sort[[]string], `"`, `":`)

// jsonLine appends the line of a record.
func jsonLine(b []byte, e *logrus.Entry, r *Record) []byte {
	b = append(b, '{')
	b = appendFields(b, jsonFields, e, r, time.RFC3339Nano, appendJSON, ',')
	b[len(b)-1] = '}'
	return append(b, '\n')
}

func appendJSON(b []byte, v value) []byte {
	if v.isBare() {
		return v.appendBare(b, 'f')
	}
	switch v.kind {
	case kindAttempts:
		return attempts(v.record.Attempts).appendJSON(b)
	case kindTCPClient, kindTCPBackend:
		return v.info().appendJSON(b)
	}
	b = append(b, '"')
	start := len(b)
	b = v.appendText(b)
	for _, c := range b[start:] {
		if !jsonPlain[c] {
			quoted, _ := json.Marshal(string(b[start:])) // no string is an error
			return append(b[:start-1], EscapeJSON(quoted)...)
		}
	}
	return append(b, '"')
}

// jsonPlain has the characters that encoding/json writes as they are.
var jsonPlain = printableBut(`"\<>&`)

// printableBut are the printable characters of ASCII that are not in but.
func printableBut(but string) (set [256]bool) {
	for c := ' '; c <= '~'; c++ {
		set[c] = !strings.ContainsRune(but, c)
	}
	return set
}
