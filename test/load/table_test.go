package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Packages that are tested one after the other share a table, in which each has its newest line.
func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "carriers.txt")
	row := func(name string, pauses ...time.Duration) {
		t.Helper()
		if err := (&Row{Name: name, load: &Load{}, pauses: pauses}).into(path); err != nil {
			t.Fatal(err)
		}
	}
	row("exec", time.Millisecond)
	row("systemd", time.Millisecond)
	row("exec", 2*time.Millisecond, 9*time.Millisecond, 4*time.Millisecond)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n\n")
	var got []string
	for line := range strings.Lines(table) {
		cells := strings.Fields(line)
		if want := strings.Count(Columns, "\t") + 1; len(cells) != want {
			t.Errorf("%d cells, want %d: %s", len(cells), want, line)
		}
		got = append(got, strings.Join(cells[:6], " "))
	}
	want := "upgrade times told-ms told-max pause-ms pause-max|systemd 1 - - 1 1|exec 3 - - 4 9"
	if strings.Join(got, "|") != want {
		t.Errorf("the table is\n%s", text)
	}
}

func TestPauses(t *testing.T) {
	got := Pauses("{\"msg\":\"a\"}\nsystemd: started\n{\"pause_ms\":1.5,\"accepting_after_ms\":3}\n{\"pause_ms\":0}\n")
	if len(got) != 2 || got[0] != 1500*time.Microsecond || got[1] != 0 {
		t.Errorf("%v", got)
	}
}
