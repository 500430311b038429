package annotation

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	known := []string{"retries", "retry-on", "hedge", "health-fall", "health-rise"}
	for unknown, want := range map[string]string{
		"retrie": "retries", "retires": "retries", "retryon": "retry-on", "hedges": "hedge", "wedge": "hedge", "heddge": "hedge",
		"health-fail": "health-fall", "health-raise": "health-rise", "health-fale": "health-fall", "health-": "",
		"balancer": "", "": "", "ret": "", "h": "",
	} {
		if got, found := Nearest(unknown, known); got != want || found != (want != "") {
			t.Errorf("%q: %q, %v, want %q", unknown, got, found, want)
		}
	}
}

// A long word is like no other one, which is plain without comparing its letters.
func TestNearestOfALongWord(t *testing.T) {
	long, known := strings.Repeat("retries", 40_000), []string{"retries", "hedge"}
	compared := testing.AllocsPerRun(1, func() {
		if got, found := Nearest(long, known); found {
			t.Errorf("%q", got)
		}
	})
	if compared > 0 {
		t.Error("its letters are compared")
	}
}
