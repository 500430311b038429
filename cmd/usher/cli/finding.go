package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/usher-proxy/usher/proxier/observe"
)

// finding is something to say about a configuration.
type finding struct {
	Level   string `json:"level"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"` // from 1; none: the file as a whole, or the command line
	Key     string `json:"key,omitempty"`  // as the file has it
	Message string `json:"message"`
}

// The levels of findings.
const (
	levelError   = "error"
	levelWarning = "warning" // usher starts all the same
)

func newFinding(level string, err error) finding {
	f := finding{Level: level, Message: err.Error()}
	var at fileError
	if errors.As(err, &at) {
		f.File, f.Line, f.Key, f.Message = at.file, at.line, at.key, at.text
	}
	f.Message = strings.ReplaceAll(f.Message, "\n", " ")
	return f
}

// String is FILE:LINE: MESSAGE, without what is not known.
func (f finding) String() string {
	text := f.Message
	if f.Level == levelWarning {
		text = "warning: " + text
	}
	if f.File == "" {
		return text
	}
	return fileError{place{file: f.File, line: f.Line}, text}.Error()
}

// judge is everything that there is to say about the configuration, in the order of the
// file.
func (o *options) judge() []finding {
	found := []finding{} // [], not null
	_, err := o.config()
	for _, err := range singly(err) {
		found = append(found, newFinding(levelError, err))
	}
	for _, err := range o.warnings() {
		found = append(found, newFinding(levelWarning, err))
	}
	slices.SortStableFunc(found, func(a, b finding) int { return cmp.Compare(a.Line, b.Line) })
	return found
}

// warnings are about what has no effect, or not the expected one.
func (s *settings) warnings() (all []error) {
	for _, w := range s.without {
		if w.place.file == "" {
			all = append(all, fmt.Errorf("%s has no meaning here", w.name))
		} else {
			what := strings.TrimPrefix(w.name, w.place.position()+": ")
			all = append(all, fileError{w.place, what + " has no meaning here"})
		}
	}
	for _, r := range s.remarks {
		all = append(all, r.what)
	}
	for _, name := range slices.Sorted(maps.Keys(s.overruled)) {
		all = append(all, s.overruled[name].wrong(" is not used: %s on the command line wins", s.winner(name)))
	}
	return all
}

// winner is what the command line has in the place of a flag's value in the file.
func (s *settings) winner(name string) string {
	for _, name := range append([]string{name}, rivals[name]...) {
		if s.spoken(name) != nil {
			return s.label(name)
		}
	}
	return s.label(name)
}

// errorsIn counts them.
func errorsIn(found []finding) (n int) {
	for _, f := range found {
		if f.Level == levelError {
			n++
		}
	}
	return n
}

// findingFormats are those of --output.
var findingFormats = map[string]func(io.Writer, []finding) error{
	"text": findingLines,
	"json": asJSON[[]finding],
}

// findingLines has a line for each, and one if nothing is wrong.
func findingLines(w io.Writer, found []finding) error {
	var b strings.Builder
	for _, f := range found {
		b.WriteString(observe.Printable(f.String()) + "\n")
	}
	if errorsIn(found) == 0 {
		b.WriteString("no problems\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
