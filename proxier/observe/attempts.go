package observe

import "encoding/json"

// attempts print as a JSON list in a JSON log, and compactly in a text log.
type attempts []Attempt

// MarshalJSON is that of json.Marshaler.
func (list attempts) MarshalJSON() ([]byte, error) { return list.appendJSON(nil), nil }

var _ json.Marshaler = attempts(nil)

func (list attempts) String() string { return string(list.appendText(nil)) }

func (list attempts) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = list[i].appendJSON(b)
	}
	return append(b, ']')
}

func (a *Attempt) appendJSON(b []byte) []byte {
	line := jsonLine{append(b, '{')}
	line.addrPort(`"backend":`, a.Backend)
	unlessEmpty(&line, `"pod":`, a.Pod)
	line.milliseconds(`"start_ms":`, a.Start)
	line.milliseconds(`"dur_ms":`, a.Duration)
	line.word(`"result":`, string(a.Result))
	unlessEmpty(&line, `"errno":`, a.Errno)
	if a.Hedged {
		line.yes(`"hedged":`, true)
	}
	return line.end()
}

// appendText appends them as endpoint=result(errno).
func (list attempts) appendText(b []byte) []byte {
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		a := &list[i]
		b = appendAddrPort(b, a.Backend)
		b = append(b, '=')
		b = append(b, string(a.Result)...)
		if a.Errno != "" {
			b = append(b, '(')
			b = append(b, a.Errno...)
			b = append(b, ')')
		}
	}
	return b
}
