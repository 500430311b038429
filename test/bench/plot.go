package bench

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A chart is a column to draw: a bar for each path, its median, and the interval that holds that
// with a probability of 95 %.
type chart struct {
	column, title string
}

// plotStyle is readable on a light ground and on a dark one.
const plotStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.value { text-anchor: end; font-variant-numeric: tabular-nums }
.bar { fill: #afb8c1 }
.usher { fill: #218bff }
.interval { stroke: #24292f; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.bar { fill: #57606a }
.usher { fill: #1f6feb }
.interval { stroke: #e6edf3 }
}
</style>
`

// Measures of a plot, in pixels.
const (
	plotWidth  = 680
	plotMargin = 16
	labelWidth = 120
	valueWidth = 80
	barsWidth  = plotWidth - 2*plotMargin - labelWidth - valueWidth
	barHeight  = 16
	rowHeight  = 24
	titleSpace = 28 // a title and the distance from what is above
)

// A bar is one path of a chart.
type bar struct {
	path              string
	low, median, high float64
}

// writePlot draws the charts of a load as SVG, those that one of the paths has. It draws nothing
// if there is none.
func (r *Report) writePlot(w io.Writer, load string) error {
	var body strings.Builder
	y := plotMargin
	for _, c := range r.charts {
		bars := r.barsOf(load, c.column)
		if len(bars) == 0 {
			continue
		}
		y = drawChart(&body, y, c.title, bars, r.digitsOf(c.column))
	}
	if body.Len() == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d">`+"\n%s%s</svg>\n",
		plotWidth, y, plotStyle, &body)
	return err
}

// plotted are the loads of which there is something to draw.
func (r *Report) plotted() []string {
	return slices.DeleteFunc(r.loads(), func(load string) bool {
		return !slices.ContainsFunc(r.charts, func(c chart) bool { return len(r.barsOf(load, c.column)) > 0 })
	})
}

func (r *Report) barsOf(load, column string) (bars []bar) {
	for _, path := range r.paths() {
		if values := r.values(load, path, column); len(values) > 0 {
			low, high := medianInterval(values)
			bars = append(bars, bar{path, low, median(values), high})
		}
	}
	return bars
}

func (r *Report) digitsOf(name string) int {
	for _, c := range r.columns {
		if c.name == name {
			return c.digits
		}
	}
	return 0
}

// drawChart draws bars below y and returns where they end.
func drawChart(w io.Writer, y int, title string, bars []bar, digits int) (end int) {
	fmt.Fprintf(w, `<text class="title" x="%d" y="%d">%s</text>`+"\n", plotMargin, y+13, escaped(title))
	y += titleSpace
	longest := 1e-9 // of all that is zero
	for _, b := range bars {
		longest = max(longest, b.high)
	}
	for _, b := range bars {
		drawBar(w, y, b, longest, digits)
		y += rowHeight
	}
	return y + plotMargin
}

// drawBar draws one at the height y, of which the longest is as wide as there is space.
func drawBar(w io.Writer, y int, b bar, longest float64, digits int) {
	const left = plotMargin + labelWidth
	x := func(value float64) float64 { return left + barsWidth*max(value, 0)/longest }
	class := "bar"
	if b.path == "usher" {
		class += " usher"
	}
	middle := y + barHeight/2
	fmt.Fprintf(w, `<text x="%d" y="%d">%s</text>`+"\n", plotMargin, middle+5, escaped(b.path))
	fmt.Fprintf(w, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", class, left, y, x(b.median)-left, barHeight)
	if b.low < b.high {
		fmt.Fprintf(w, `<path class="interval" d="M%.1f %d H%.1f M%.1[1]f %[4]d v8 M%.1[3]f %[4]d v8"/>`+"\n",
			x(b.low), middle, x(b.high), middle-4)
	}
	fmt.Fprintf(w, `<text class="value" x="%d" y="%d">%s</text>`+"\n",
		plotWidth-plotMargin, middle+5, strconv.FormatFloat(b.median, 'f', digits, 64))
}

func escaped(text string) string {
	var out strings.Builder
	xml.EscapeText(&out, []byte(text)) // a Builder takes all
	return out.String()
}
