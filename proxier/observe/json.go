package observe

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

var jsonFields = ordered("ts", slices.Sort[[]string], `"`, `":`)

// appendJSON appends the line of a record that has ended.
func appendJSON(b []byte, r *Record) []byte {
	line := jsonLine{append(b, '{')}
	r.tell(jsonFields, &line)
	return append(line.end(), '\n')
}

// jsonLine is the teller that appends the members of a JSON object, with a comma behind
// each. The keys that it is given are in quotes, with a colon.
type jsonLine struct{ b []byte }

// end has a bracket for the last comma.
func (l *jsonLine) end() []byte {
	l.b[len(l.b)-1] = '}'
	return l.b
}

func (l *jsonLine) text(key, value string) {
	l.b = append(append(l.b, key...), '"')
	start := len(l.b)
	l.b = append(l.b, value...)
	l.quoted(start)
}

// quoted closes the quotes around what begins at start.
func (l *jsonLine) quoted(start int) {
	for _, c := range l.b[start:] {
		if !jsonPlain[c] {
			whole, _ := json.Marshal(string(l.b[start:])) // no string is an error
			l.b = append(append(l.b[:start-1], EscapeJSON(whole)...), ',')
			return
		}
	}
	l.b = append(l.b, '"', ',')
}

func (l *jsonLine) word(key, value string) {
	b := append(append(l.b, key...), '"')
	l.b = append(append(b, value...), '"', ',')
}

func (l *jsonLine) number(key string, n int64) {
	l.b = append(strconv.AppendInt(append(l.b, key...), n, 10), ',')
}

func (l *jsonLine) milliseconds(key string, d time.Duration) {
	l.b = append(appendMilliseconds(append(l.b, key...), d, 'f'), ',')
}

func (l *jsonLine) yes(key string, is bool) {
	l.b = append(strconv.AppendBool(append(l.b, key...), is), ',')
}

func (l *jsonLine) time(key string, t time.Time) {
	b := append(append(l.b, key...), '"')
	l.b = append(t.AppendFormat(b, time.RFC3339Nano), '"', ',')
}

func (l *jsonLine) ip(key string, a netip.Addr) {
	l.b = append(append(l.b, key...), '"')
	start := len(l.b)
	l.b = appendIP(l.b, a)
	l.quoted(start) // the zone of an address is anything
}

func (l *jsonLine) addrPort(key string, a netip.AddrPort) {
	l.b = append(append(l.b, key...), '"')
	start := len(l.b)
	l.b = appendAddrPort(l.b, a)
	l.quoted(start)
}

func (l *jsonLine) id(key string, r *Record) {
	l.b = append(r.appendID(append(append(l.b, key...), '"')), '"', ',')
}

func (l *jsonLine) sentence(key string, r *Record) {
	l.b = append(append(l.b, key...), '"')
	start := len(l.b)
	l.b = r.appendSentence(l.b)
	l.quoted(start)
}

func (l *jsonLine) attempts(key string, list attempts) {
	l.b = append(list.appendJSON(append(l.b, key...)), ',')
}

func (l *jsonLine) tcpInfo(key string, i *TCPInfo) {
	l.b = append(i.appendJSON(append(l.b, key...)), ',')
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
