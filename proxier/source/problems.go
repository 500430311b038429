package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
)

// position is where something stands in a file.
type position struct {
	file string
	line int // from 1; 0 stands for the file as a whole
}

func (p position) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// severity says what a problem does.
type severity int

const (
	broken severity = iota // something is not served as written
	unused                 // something is left out on purpose
	notice                 // a consequence of another problem
)

// problem is something to tell about a file.
type problem struct {
	position
	object   string // "Service default/web", "" if not known
	field    string // "spec.ports[0].port", "" for the object as a whole
	message  string
	severity severity
}

func (p problem) String() string {
	parts := []string{p.position.String()}
	for _, part := range []string{p.object, p.field} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(append(parts, p.message), ": ")
}

// problemLog tells each problem once when it appears, and once when it is
// gone.
type problemLog struct {
	log   logrus.FieldLogger
	known map[string]problem // by key
}

// tell is given all problems of a load.
func (l *problemLog) tell(problems []problem) {
	now := make(map[string]problem, len(problems))
	for _, p := range problems {
		now[p.key(now)] = p
	}
	for _, key := range sorted(now) {
		if _, known := l.known[key]; !known {
			l.appeared(now[key])
		}
	}
	for _, key := range sorted(l.known) {
		if _, still := now[key]; !still && l.known[key].severity != notice {
			l.log.Info("mended: " + l.known[key].String())
		}
	}
	l.known = now
}

func (l *problemLog) appeared(p problem) {
	if p.severity == broken {
		l.log.Error(p)
		return
	}
	l.log.Warn(p)
}

// key identifies a problem across edits that only move it to another line. The
// same mistake made again in a file is told apart by counting.
func (p problem) key(taken map[string]problem) string {
	for n := 0; ; n++ {
		key := fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%d", p.file, p.object, p.field, p.message, n)
		if _, found := taken[key]; !found {
			return key
		}
	}
}

// sorted returns the keys of m in the order of the files and lines, and within
// a file what follows from a problem after the problem.
func sorted(m map[string]problem) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		pa, pb := m[a], m[b]
		return cmp.Or(cmp.Compare(pa.file, pb.file), cmp.Compare(pa.severity, pb.severity),
			cmp.Compare(pa.line, pb.line), cmp.Compare(a, b))
	})
	return keys
}
