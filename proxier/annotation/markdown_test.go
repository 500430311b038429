package annotation

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write ANNOTATIONS.md")

func TestMarkdownIsCurrent(t *testing.T) {
	const file = "ANNOTATIONS.md"
	if *update {
		if err := os.WriteFile(file, []byte(Table()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != Table() {
		t.Errorf("%s is not what the table of annotations says: run go generate ./proxier/annotation", file)
	}
}

// A | or a line break in a cell would begin another one.
func TestMarkdownHasOneRowForEach(t *testing.T) {
	_, rows, _ := strings.Cut(Table(), "|---|---|---|---|---|\n")
	for i, row := range strings.Split(strings.TrimSuffix(rows, "\n"), "\n") {
		if strings.Count(row, "|") != 6 || !strings.HasPrefix(row, "| `"+entries[i].Name+"` | ") {
			t.Errorf("row %d: %s", i, row)
		}
	}
}
