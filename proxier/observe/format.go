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
// and may change the entry; then logrus writes it. Without hooks several records are one
// entry.
type Formatter struct {
	others logrus.Formatter
	line   func([]byte, *Record) []byte
	json   bool
	// decorates says whether others adds something that line does not.
	decorates func(*logrus.Entry) bool
}

// NewJSONFormatter returns the Formatter of a log with one JSON object a line. Keys are
// sorted; ts is when the record ended, of other lines when they were written, in RFC 3339.
func NewJSONFormatter() *Formatter {
	return &Formatter{
		others: &logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyTime: "ts"},
		},
		line:      AppendJSON,
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
		others: others, line: appendText,
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
const lineSize = 1536

// Format is that of logrus.Formatter.
func (f *Formatter) Format(e *logrus.Entry) ([]byte, error) {
	switch of := e.Data[recordField].(type) {
	case *Record:
		return f.full(e, of)
	case []*Record:
		return f.append(buffer(e, len(of)), e, of)
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

// append appends the lines of records.
func (f *Formatter) append(b []byte, e *logrus.Entry, all []*Record) ([]byte, error) {
	if f.decorates(e) {
		return f.decorated(b, e, all)
	}
	for _, r := range all {
		b = f.line(b, r)
	}
	return b, nil
}

func (f *Formatter) decorated(b []byte, e *logrus.Entry, all []*Record) ([]byte, error) {
	one := *e
	for _, r := range all {
		one.Time, one.Level, one.Message = r.EndTime(), r.level(), r.Sentence()
		line, err := f.full(&one, r)
		if err != nil {
			return nil, err
		}
		b = append(b, line...)
	}
	return b, nil
}

// full is the line of one record as logrus writes it.
func (f *Formatter) full(e *logrus.Entry, r *Record) ([]byte, error) {
	full := withFields(e, r)
	if f.decorates(e) {
		full.Message = Printable(full.Message) // in one line
	}
	return f.other(full)
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

// ordered are the fields of a line, with those that every line of the log has: when, how
// grave and what, as a sentence. They are in the order that sort gives their keys, which
// are between before and after then.
func ordered(when string, sort func([]string), before, after string) []field {
	all := slices.Concat(entryFields(when), fields)
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

// entryFields are those that a line has besides the fields of its record.
func entryFields(when string) []field {
	return []field{
		{key: when, say: func(t teller, k string, r *Record) { t.time(k, r.EndTime()) }},
		{key: "level", say: func(t teller, k string, r *Record) { t.word(k, r.level().String()) }},
		{key: "msg", say: func(t teller, k string, r *Record) { t.sentence(k, r) }},
	}
}
