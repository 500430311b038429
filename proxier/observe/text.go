package observe

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
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

var textFields = ordered("time", sortFields, "", "=")

// appendText appends the line of a record that has ended, as the text log has it.
func appendText(b []byte, r *Record) []byte {
	line := textLine{b}
	r.tell(textFields, &line)
	line.b[len(line.b)-1] = '\n'
	return line.b
}

// textLine is the teller that appends key=value, with a space behind each. The keys that it
// is given have the equals sign.
type textLine struct{ b []byte }

// put appends a value in quotes if it needs them.
func (l *textLine) put(key string, appendTo func([]byte) []byte) {
	l.b = append(l.b, key...)
	start := len(l.b)
	l.b = append(quote(appendTo(l.b), start), ' ')
}

func (l *textLine) text(key, value string) {
	l.put(key, func(b []byte) []byte { return append(b, value...) })
}

func (l *textLine) word(key, value string) { l.text(key, value) }

func (l *textLine) number(key string, n int64) {
	l.b = append(strconv.AppendInt(append(l.b, key...), n, 10), ' ')
}

func (l *textLine) milliseconds(key string, d time.Duration) {
	l.b = append(appendMilliseconds(append(l.b, key...), d, 'g'), ' ')
}

func (l *textLine) yes(key string, is bool) {
	l.b = append(strconv.AppendBool(append(l.b, key...), is), ' ')
}

// time appends that of the line as people read it, any other in full.
func (l *textLine) time(key string, t time.Time) {
	layout := time.RFC3339Nano
	if key == "time=" {
		layout = textTime
	}
	l.put(key, func(b []byte) []byte { return t.AppendFormat(b, layout) })
}

func (l *textLine) ip(key string, a netip.Addr) {
	l.put(key, func(b []byte) []byte { return appendIP(b, a) })
}

func (l *textLine) addrPort(key string, a netip.AddrPort) {
	l.put(key, func(b []byte) []byte { return appendAddrPort(b, a) })
}

func (l *textLine) id(key string, r *Record)           { l.put(key, r.appendID) }
func (l *textLine) sentence(key string, r *Record)     { l.put(key, r.appendSentence) }
func (l *textLine) attempts(key string, list attempts) { l.put(key, list.appendText) }
func (l *textLine) tcpInfo(key string, i *TCPInfo)     { l.text(key, i.String()) }

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
