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
	b = appendMember(b, `{"backend":`, addrPort(&a.Backend))
	b = appendMember(b, `,"pod":`, unlessEmpty(a.Pod))
	b = appendMember(b, `,"start_ms":`, milliseconds(a.Start))
	b = appendMember(b, `,"dur_ms":`, milliseconds(a.Duration))
	b = appendMember(b, `,"result":`, text(string(a.Result)))
	b = appendMember(b, `,"errno":`, unlessEmpty(a.Errno))
	if a.Hedged {
		b = append(b, `,"hedged":true`...)
	}
	return append(b, '}')
}

func appendMember(b []byte, key string, v value) []byte {
	if v.kind == kindNone {
		return b
	}
	return appendJSON(append(b, key...), v)
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
