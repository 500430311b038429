package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// place is where a configuration file says something.
type place struct {
	file string
	line int    // from 1; 0: the file as a whole
	key  string // as the file has it; "": it is about no key
}

// String is FILE:LINE: KEY, without what is not known.
func (p place) String() string {
	if p.key == "" {
		return p.position()
	}
	return p.position() + ": " + p.key
}

// position is FILE:LINE.
func (p place) position() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// fileError is what is wrong at a place. Its text names the key, if it is about one.
type fileError struct {
	place
	text string
}

func (e fileError) Error() string { return e.position() + ": " + e.text }

// wrong is an error about a key.
func (p place) wrong(format string, args ...any) error {
	return fileError{p, p.key + fmt.Sprintf(format, args...)}
}

// inOrder are errors that were joined, each by itself, in the order of the file. Those
// about no line of it come first.
func inOrder(err error) []error {
	all := singly(err)
	line := func(err error) int {
		var at fileError
		errors.As(err, &at)
		return at.line
	}
	slices.SortStableFunc(all, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
	return all
}

// singly takes errors that were joined apart.
func singly(err error) (all []error) {
	var usage usageError
	if errors.As(err, &usage) {
		err = usage.error
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		all = append(all, singly(one)...)
	}
	return all
}
