package observe

import (
	"slices"
	"strconv"

	"github.com/sirupsen/logrus"
)

const textTime = "15:04:05.000"

// firstFields are what a reader of a text log looks for first.
var firstFields = []string{
	"time", "ts", "level", "msg", "reason", "service", "client_ip", "client_port", "vip", "vip_port",
	"backend_pod", "backend_ip", "backend_port", "attempts", "bytes_in", "bytes_out", "connect_ms", "duration_ms",
}

func sortFields(keys []string) {
	rank := func(key string) int {
		if i := slices.Index(firstFields, key); i >= 0 {
			return i
		}
		return len(firstFields)
	}
	slices.Sort(keys)
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
}

var textFields = ordered([]field{
	entryField("time", kindTime), entryField("level", kindLevel), entryField("msg", kindMessage),
}, sortFields, "", "=")

// textLine appends the line of a record.
func textLine(b []byte, e *logrus.Entry, r *Record) []byte {
	b = appendFields(b, textFields, e, r, textTime, appendLogfmt, ' ')
	b[len(b)-1] = '\n'
	return b
}

func appendLogfmt(b []byte, v value) []byte {
	if v.isBare() {
		return v.appendBare(b, 'g')
	}
	start := len(b)
	if v.kind == kindAttempts {
		b = attempts(v.record.Attempts).appendText(b)
	} else {
		b = v.appendText(b)
	}
	return quote(b, start)
}

// quote puts what begins at start in quotes if it has more than logrus leaves without
// them.
func quote(b []byte, start int) []byte {
	bare := true
	for _, c := range b[start:] {
		if !textPlain[c] {
			return strconv.AppendQuote(b[:start], string(b[start:]))
		}
		bare = bare && textBare[c]
	}
	if bare {
		return b
	}
	b = append(b, '"', '"')
	copy(b[start+1:len(b)-1], b[start:])
	b[start] = '"'
	return b
}

// textPlain has the characters that quotes leave as they are, and textBare those of them
// that need no quotes.
var (
	textPlain = printableBut(`"\`)
	textBare  = printableBut(" !\"#$%&'()*,:;<=>?[\\]`{|}~")
)
