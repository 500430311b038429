//go:build race

package balancertest

import (
	"strings"
	"testing"
)

func TestTheRaceDetectorFindsARace(t *testing.T) {
	out, failed := runVictim(t, "racing")
	if !failed || !strings.Contains(out, "DATA RACE") {
		t.Errorf("want a failure with a DATA RACE in:\n%s", out)
	}
}
