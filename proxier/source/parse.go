package source

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parse returns the tree of a document, nil if it has only comments.
func parse(text []byte) (*yaml.Node, error) {
	if !utf8.Valid(text) {
		return nil, errNotUTF8
	}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, errSeveral // documents would have split it
	} else if err != io.EOF {
		return nil, err
	}
	root := resolve(&doc)
	if root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

var (
	errNotUTF8 = errors.New("the text is not UTF-8")
	errSeveral = errors.New("more than one document")
	lineInYAML = regexp.MustCompile(`^yaml: line (\d+): `)
	// The YAML parser, unlike its scanner, counts lines from 0; the kinds of
	// error are told apart by their texts alone.
	fromParser    = regexp.MustCompile(`did not find expected (node content|key|'-' indicator|',' or|<)`)
	inBlock       = regexp.MustCompile(`did not find expected (key|'-' indicator)`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.+)' referenced`)
)

// syntaxError returns what err says, and the line of text it says it about.
func syntaxError(text []byte, err error) (line int, message string) {
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	line = 1
	if found := lineInYAML.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	message = strings.TrimPrefix(lineInYAML.ReplaceAllString(err.Error(), ""), "yaml: ")
	if fromParser.MatchString(message) {
		line++
	}
	switch {
	case errors.Is(err, errNotUTF8):
		line = firstLine(lines, 1, func(line []byte) bool { return !utf8.Valid(line) })
	case inBlock.MatchString(message):
		message += ": see the indentation from this line on"
	case strings.Contains(message, "<document start>"):
		message += ": a second object needs a line --- before it"
	case unknownAnchor.MatchString(message):
		alias := []byte("*" + unknownAnchor.FindStringSubmatch(message)[1])
		line = firstLine(lines, 1, func(line []byte) bool { return bytes.Contains(line, alias) })
	case strings.Contains(message, "tab character"), strings.Contains(message, "cannot start any token"):
		if tab := firstLine(lines, line, tabInIndent); tab != 0 {
			line = tab
			message += " (indent with spaces: this line has a tab)"
		}
	}
	return max(1, min(line, len(lines))), message
}

// firstLine returns the number of the first line, not before from, of which is
// holds, 0 if there is none.
func firstLine(lines [][]byte, from int, is func([]byte) bool) int {
	for i := max(1, from); i <= len(lines); i++ {
		if is(lines[i-1]) {
			return i
		}
	}
	return 0
}

func tabInIndent(line []byte) bool {
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	return bytes.IndexByte(indent, '\t') >= 0
}
