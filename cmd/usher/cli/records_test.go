package cli

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/usher-proxy/usher/proxier/annotation"
)

// The flags and annotations that RECORDS.md says to turn are there to be turned.
func TestSettingsOfRECORDS(t *testing.T) {
	text, err := os.ReadFile("../../../proxier/observe/RECORDS.md")
	if err != nil {
		t.Fatal(err)
	}
	run := newRun(nil).Flags()
	named := 0
	for _, found := range regexp.MustCompile("`(--)?([a-z]+(?:-[a-z]+)+)").FindAllStringSubmatch(string(text), -1) {
		named++
		isFlag, name := found[1] != "", found[2]
		if isFlag && run.Lookup(name) == nil {
			t.Errorf("usher run has no --%s", name)
		}
		if !isFlag && !slices.ContainsFunc(annotation.Docs(), func(d annotation.Doc) bool { return d.Name == name }) {
			t.Errorf("there is no annotation %s", name)
		}
	}
	if named < 20 {
		t.Errorf("it names %d", named)
	}
}
