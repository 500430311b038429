package bench

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A shape is an element of a plot, as far as the test looks.
type shape struct {
	Class string  `xml:"class,attr"`
	Line  string  `xml:"d,attr"`
	Width float64 `xml:"width,attr"`
	Text  string  `xml:",chardata"`
}

type picture struct {
	Texts     []shape `xml:"text"`
	Bars      []shape `xml:"rect"`
	Intervals []shape `xml:"path"`
}

func plottedReport() *Report {
	r := &Report{
		name:    "test",
		columns: []column{{"requests/s", 0}, {"cpu", 2}},
		charts:  []chart{{"requests/s", "Requests <per> second"}, {"cpu", "CPU"}, {"missing", "Nobody has it"}},
	}
	for round, rate := range []float64{400, 100, 200} {
		r.add(Measurement{round + 1, "few", "usher", map[string]float64{"requests/s": 2 * rate, "cpu": 2.25}})
		r.add(Measurement{round + 1, "few", "direct", map[string]float64{"requests/s": rate}})
		r.add(Measurement{round + 1, "none", "direct", map[string]float64{"other": 1}})
	}
	return r
}

func TestPlot(t *testing.T) {
	var out bytes.Buffer
	if err := plottedReport().writePlot(&out, "few"); err != nil {
		t.Fatal(err)
	}
	var p picture
	if err := xml.Unmarshal(out.Bytes(), &p); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	var texts []string
	for _, s := range p.Texts {
		texts = append(texts, s.Text)
	}
	const want = "Requests <per> second|direct|200|usher|400|CPU|usher|2.25"
	if got := strings.Join(texts, "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// The longest interval, to 800 requests a second, takes all the width. CPU has none.
	widths := []float64{barsWidth / 4, barsWidth / 2, barsWidth}
	if len(p.Bars) != len(widths) || len(p.Intervals) != 2 {
		t.Fatalf("%d bars, %d intervals\n%s", len(p.Bars), len(p.Intervals), &out)
	}
	for i, w := range widths {
		if p.Bars[i].Width != w || strings.Contains(p.Bars[i].Class, "usher") != (i > 0) {
			t.Errorf("bar %d: %+v, want the width %v", i, p.Bars[i], w)
		}
	}
	if got, want := p.Intervals[1].Line, "M248.0 76 H584.0 M248.0 72 v8 M584.0 72 v8"; got != want {
		t.Errorf("interval %s, want %s", got, want)
	}
}

// There is a file for each load of which there is something to see.
func TestPublishedFiles(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "results")
	if err := plottedReport().publish(folder); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "test-few.svg test.csv test.json test.txt" {
		t.Errorf("files: %s", got)
	}
}
