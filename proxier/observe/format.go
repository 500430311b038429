package observe

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// recordField is the one field by which a record travels to a Formatter, or a []*Record.
const recordField = "record"

// Formatter is a logrus.Formatter that writes the lines of records itself, without the
// map of fields and the reflection that are most of what a line costs otherwise. All
// else is written by a formatter of logrus, which would write records the same.
//
// With it, hooks of the logger find a *Record in the field "record" of an entry,
// and may add fields. Without hooks several records are one entry.
type Formatter struct {
	others logrus.Formatter
	line   func([]byte, *logrus.Entry, *Record) []byte
	json   bool
	// decorates says whether others adds something that line does not.
	decorates func(*logrus.Entry) bool
}

// NewJSONFormatter returns the Formatter of a log with one JSON object a line. Keys are
// sorted; ts is when the line was written, in RFC 3339.
func NewJSONFormatter() *Formatter {
	return &Formatter{
		others: &logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyTime: "ts"},
		},
		line:      jsonLine,
		json:      true,
		decorates: func(*logrus.Entry) bool { return false },
	}
}

// NewTextFormatter returns the Formatter of a log for people to read: key=value, first
// what they look for first. It has colours if the log is a terminal.
func NewTextFormatter() *Formatter {
	others := &logrus.TextFormatter{FullTimestamp: true, TimestampFormat: textTime, SortingFunc: sortFields}
	var coloured bool
	var once sync.Once
	return &Formatter{
		others: others, line: textLine,
		decorates: func(e *logrus.Entry) bool {
			once.Do(func() { // it knows, but does not tell
				probe, _ := others.Format(&logrus.Entry{Logger: &logrus.Logger{Out: under(e.Logger.Out)}})
				coloured = bytes.IndexByte(probe, '\x1b') >= 0
			})
			return coloured
		},
	}
}

// lineSize is more than most lines have, so that a buffer rarely grows.
const lineSize = 1024

// Format is that of logrus.Formatter.
func (f *Formatter) Format(e *logrus.Entry) ([]byte, error) {
	switch of := e.Data[recordField].(type) {
	case *Record:
		return f.append(buffer(e, 1), e, of)
	case []*Record:
		return f.appendAll(buffer(e, len(of)), *e, of)
	}
	return f.other(e)
}

// other writes what is no plain record. In what the formatters of logrus leave as it is,
// everything that is not printable is escaped: that is some of JSON, and the message of a
// coloured line.
func (f *Formatter) other(e *logrus.Entry) ([]byte, error) {
	if f.json {
		line, err := f.others.Format(e)
		return EscapeJSON(line), err
	}
	if f.decorates(e) {
		safe := *e
		safe.Message = printableLines(e.Message)
		e = &safe
	}
	return f.others.Format(e)
}

// printableLines is Printable for a message, which may have lines, as a stack has. None
// of them can be taken for another message.
func printableLines(message string) string {
	lines := strings.Split(strings.ReplaceAll(message, "\t", "    "), "\n")
	for i, line := range lines {
		lines[i] = Printable(line)
	}
	return strings.Join(lines, "\n        ")
}

// buffer has room for lines.
func buffer(e *logrus.Entry, lines int) []byte {
	b := e.Buffer
	if b == nil {
		b = &bytes.Buffer{}
	}
	b.Grow(lines * lineSize)
	return b.AvailableBuffer()
}

// appendAll appends the lines of records, each of which has a level and a message of its
// own.
func (f *Formatter) appendAll(b []byte, e logrus.Entry, all []*Record) (_ []byte, err error) {
	e.Buffer = nil
	for _, r := range all {
		e.Level, e.Message = r.level(), r.Sentence()
		if b, err = f.append(b, &e, r); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (f *Formatter) append(b []byte, e *logrus.Entry, r *Record) ([]byte, error) {
	if len(e.Data) > 1 || e.Caller != nil || e.Message == "" || f.decorates(e) {
		full := withFields(e, r)
		if f.decorates(e) {
			full.Message = Printable(full.Message) // in one line
		}
		line, err := f.other(full)
		return append(b, line...), err
	}
	return f.line(b, e, r), nil
}

// withFields is an entry that has the fields of a record instead of the record.
func withFields(e *logrus.Entry, r *Record) *logrus.Entry {
	full := *e
	full.Buffer = nil // which has lines in it
	full.Data = logrus.Fields(r.Fields())
	maps.Copy(full.Data, e.Data)
	delete(full.Data, recordField)
	return &full
}

// ordered are the fields of a line, those that every entry has among them, in the
// order that sort gives their keys. These are between before and after then.
func ordered(entry []field, sort func([]string), before, after string) []field {
	all := slices.Concat(entry, fields)
	var keys []string
	for _, f := range all {
		keys = append(keys, f.key)
	}
	sort(keys)
	slices.SortStableFunc(all, func(a, b field) int { return slices.Index(keys, a.key) - slices.Index(keys, b.key) })
	for i := range all {
		all[i].key = before + all[i].key + after
	}
	return all
}

// entryField is a field that the entry has, not the record.
func entryField(key string, what kind) field {
	return field{key: key, of: func(*Record) value { return value{kind: what} }}
}

// appendFields appends what a record has of the fields, with end behind each. layout is
// that of the entry's time.
func appendFields(b []byte, list []field, e *logrus.Entry, r *Record, layout string, appendValue func([]byte, value) []byte, end byte) []byte {
	traits := r.traits()
	for i := range list {
		f := &list[i]
		if !traits.have(f) {
			continue
		}
		v := f.of(r)
		if v.kind == kindNone {
			continue
		}
		v.ask(e, layout)
		b = append(b, f.key...)
		b = appendValue(b, v)
		b = append(b, end)
	}
	return b
}
