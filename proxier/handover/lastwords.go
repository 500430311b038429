package handover

import (
	"strings"

	"github.com/usher-proxy/usher/proxier/observe"
)

// lastWords keeps the end of what a program prints.
type lastWords struct{ kept []byte }

const maxWords = 4 << 10 // bytes

// Write never fails.
func (w *lastWords) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p[max(0, len(p)-maxWords):]...)
	if extra := len(w.kept) - maxWords; extra > 0 {
		w.kept = append(w.kept[:0], w.kept[extra:]...)
	}
	return len(p), nil
}

// text is one printable line.
func (w *lastWords) text() string {
	lines := strings.FieldsFunc(string(w.kept), func(r rune) bool { return r == '\n' || r == '\r' })
	return observe.Printable(strings.ToValidUTF8(strings.Join(lines, "; "), "?"))
}
