package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// contents is what was found in one file.
type contents struct {
	file     string
	objects  []object
	problems []problem
	gone     bool // with its folder
}

// broken reports whether something in the file could not be read. What it
// defined before then stays, because a typing error must not take a Service
// down.
func (c contents) broken() bool {
	return c.gone || slices.ContainsFunc(c.problems, func(p problem) bool { return p.severity == broken })
}

// merged is the state that all files together make.
type merged struct {
	served   map[string][]object // by file
	problems []problem
}

// merge decides which objects are served. before is what was served so far.
//
//   - An object that several files define is taken from the first of them.
//   - A frontend that several Services claim stays with the one that has it
//     already; else the older one gets it by creationTimestamp, else the first.
//   - The loser, like an object that a broken file no longer defines, stays as
//     it was, if nobody else took its place.
func merge(files []contents, before map[string][]object) merged {
	m := merger{before: before, defined: make(map[identity]object), taken: make(claims), admitted: make(map[identity]bool)}
	m.served = make(map[string][]object)
	m.brokenFiles = make(map[string]bool)
	for _, f := range files {
		m.brokenFiles[f.file] = f.broken()
	}
	m.admit(m.distinct(files))
	for _, f := range files {
		if m.brokenFiles[f.file] {
			m.keep(f.file)
		}
	}
	return m.merged
}

type merger struct {
	merged
	before      map[string][]object
	brokenFiles map[string]bool
	defined     map[identity]object
	taken       claims
	admitted    map[identity]bool
}

// distinct returns the objects of all files, each identity once.
func (m *merger) distinct(files []contents) []object {
	var all []object
	for _, f := range files {
		for _, o := range f.objects {
			if first, found := m.defined[o.id]; found {
				m.problems = append(m.problems, problem{
					position: o.position, object: o.id.String(),
					message: fmt.Sprintf("is defined in %s already, which counts: remove one of them", first.position),
				})
				continue
			}
			m.defined[o.id] = o
			all = append(all, o)
		}
	}
	return all
}

// admit serves the objects whose claims nobody else has.
func (m *merger) admit(objects []object) {
	m.reserve(objects)
	inTurn := slices.Clone(objects)
	slices.SortStableFunc(inTurn, func(a, b object) int { return cmp.Compare(age(a), age(b)) })
	for _, o := range inTurn {
		if conflicts := m.taken.conflicts(o); len(conflicts) > 0 {
			m.problems = append(m.problems, conflicts...)
			m.brokenFiles[o.file] = true
			continue
		}
		m.taken.take(o)
		m.admitted[o.id] = true
	}
	for _, o := range objects {
		if m.admitted[o.id] {
			m.served[o.file] = append(m.served[o.file], o)
		}
	}
}

// reserve gives each frontend that a Service has, and still claims, to it.
func (m *merger) reserve(objects []object) {
	holder := make(map[frontend]identity)
	for _, served := range m.before {
		for _, o := range served {
			for _, c := range o.claims {
				holder[c.frontend] = o.id
			}
		}
	}
	for _, o := range objects {
		for _, c := range o.claims {
			if holder[c.frontend] == o.id {
				m.taken[c.frontend] = o
			}
		}
	}
}

// age sorts by creationTimestamp; objects without one come last.
func age(o object) int64 {
	if o.service == nil || o.service.CreationTimestamp.IsZero() {
		return time.Unix(1<<40, 0).Unix()
	}
	return o.service.CreationTimestamp.Unix()
}

// keep goes on serving what a file defined before, and does not any more.
func (m *merger) keep(file string) {
	var kept []string
	for _, o := range m.before[file] {
		if m.admitted[o.id] {
			continue
		}
		if conflicts := m.taken.conflicts(o); len(conflicts) > 0 {
			for _, p := range conflicts {
				p.position, p.severity = position{file: file}, notice
				p.message = "its last good state is no longer served: " + p.message
				m.problems = append(m.problems, p)
			}
			continue
		}
		m.taken.take(o)
		m.admitted[o.id] = true
		m.served[file] = append(m.served[file], o)
		kept = append(kept, o.id.String())
	}
	if len(kept) > 0 {
		m.problems = append(m.problems, problem{
			position: position{file: file}, severity: notice,
			message: "until this is mended, still served from the last good state: " + enumerate(kept),
		})
	}
}

// enumerate names the first few of many.
func enumerate(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
