package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// A file that cannot be opened is an error of the start, which names it.
func TestLogFileThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "records.json")
	var stderr bytes.Buffer
	l, err := openLogs(&stderr, &seenOptions{logLevel: "info", logFormat: "text", logFile: path})
	if err == nil || l != nil || !strings.Contains(err.Error(), "--log-file="+path) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v, %v", l, err)
	}
}
