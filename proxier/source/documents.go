package source

import (
	"bytes"
)

// document is one YAML document of a file.
type document struct {
	line int // of its first line in the file, counted from 1
	text []byte
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// documents splits a file where a line begins with "---" or "...". No YAML
// text may contain such a line otherwise, not even in a block scalar. Doing
// that before parsing keeps a syntax error from spoiling the next document.
func documents(file []byte) []document {
	file = bytes.TrimPrefix(file, byteOrderMark)
	var docs []document
	current := document{line: 1}
	start, offset, line := 0, 0, 1
	cut := func(end, next, nextLine int) {
		current.text = file[start:end]
		if len(bytes.TrimSpace(current.text)) > 0 {
			docs = append(docs, current)
		}
		current, start = document{line: nextLine}, next
	}
	for offset < len(file) {
		end := len(file)
		if i := bytes.IndexByte(file[offset:], '\n'); i >= 0 {
			end = offset + i + 1
		}
		switch text := file[offset:end]; {
		case isMarker(text, "---"): // stays: a document may begin on this line
			cut(offset, offset, line)
		case isMarker(text, "..."):
			cut(offset, end, line+1)
		}
		offset, line = end, line+1
	}
	cut(len(file), len(file), line)
	return docs
}

// isMarker reports whether a line consists of marker, alone or before a blank.
func isMarker(line []byte, marker string) bool {
	rest, found := bytes.CutPrefix(line, []byte(marker))
	return found && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}
