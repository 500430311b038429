package source

import (
	"fmt"
	"strings"
	"testing"
)

func TestDocuments(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want []string // line and first words of each document
	}{
		"nothing":               {"", nil},
		"one":                   {"a: 1\n", []string{"1 a: 1"}},
		"no newline at the end": {"a: 1", []string{"1 a: 1"}},
		"two":                   {"a: 1\n---\nb: 2\n", []string{"1 a: 1", "2 --- b: 2"}},
		"begins with a marker":  {"---\na: 1\n---\nb: 2\n", []string{"1 --- a: 1", "3 --- b: 2"}},
		"marker with comment":   {"a: 1\n--- # next\nb: 2\n", []string{"1 a: 1", "2 --- # next b: 2"}},
		"content on the marker": {"--- {a: 1}\n--- {b: 2}\n", []string{"1 --- {a: 1}", "2 --- {b: 2}"}},
		"end marker":            {"a: 1\n...\nb: 2\n", []string{"1 a: 1", "3 b: 2"}},
		"no marker":             {"a: 1\n----\n---b\n", []string{"1 a: 1 ---- ---b"}},
		"not indented":          {"a: |\n  ---\nb: 2\n", []string{"1 a: | --- b: 2"}},
		"CRLF":                  {"a: 1\r\n---\r\nb: 2\r\n", []string{"1 a: 1", "2 --- b: 2"}},
		"BOM":                   {"\xef\xbb\xbfa: 1\n", []string{"1 a: 1"}},
		"BOM before a marker":   {"\xef\xbb\xbf---\na: 1\n", []string{"1 --- a: 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, d := range documents([]byte(test.file)) {
				got = append(got, fmt.Sprintf("%d %s", d.line, strings.Join(strings.Fields(string(d.text)), " ")))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got\n%q, want\n%q", got, test.want)
			}
		})
	}
}
