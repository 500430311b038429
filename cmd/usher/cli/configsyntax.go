package cli

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkText refuses what cannot be YAML, whose parser would not say where it is.
func checkText(file string, content []byte) error {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(content, []byte(mark)) {
			return fileError{place{file: file, line: 1}, "this is UTF-16: save it as UTF-8"}
		}
	}
	for i := 0; i < len(content); {
		r, size := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			line := 1 + bytes.Count(content[:i], []byte("\n"))
			return fileError{place{file: file, line: line}, fmt.Sprintf("byte 0x%02x is no text: want YAML in UTF-8", content[i])}
		}
		i += size
	}
	return nil
}

var (
	yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	tabbed    = regexp.MustCompile(`(?m)^ *\t\s*\S`)
)

// yamlAdvice says what to do about errors of the YAML parser.
var yamlAdvice = []struct{ of, advice string }{
	{"could not find expected ':'", "want KEY: VALUE"},
	{"mapping values are not allowed", "want KEY: VALUE, indented like the other keys, and a text that has a colon in quotes"},
	{"unexpected end of stream", "close the quotes"},
	{"did not find expected", "see that brackets and quotes are closed, and that keys are indented alike"},
	{"cannot start any token", "put the text in quotes"},
}

// syntaxError is an error of the YAML parser, with its place.
func syntaxError(file string, content []byte, err error) error {
	parts := yamlError.FindStringSubmatch(err.Error())
	if parts == nil {
		return fileError{place{file: file}, err.Error()}
	}
	at, text := place{file: file}, parts[2]
	at.line, _ = strconv.Atoi(parts[1]) // 0 where it does not say
	if tab := tabbed.FindIndex(content); tab != nil && (strings.Contains(text, "tab") || strings.Contains(text, "token")) {
		at.line = 1 + bytes.Count(content[:tab[0]], []byte("\n")) // the parser means the line before
		return fileError{at, "a tab is no indentation: use spaces"}
	}
	for _, known := range yamlAdvice {
		if strings.Contains(text, known.of) {
			return fileError{at, "no YAML: " + text + ": " + known.advice}
		}
	}
	return fileError{at, "no YAML: " + text}
}
