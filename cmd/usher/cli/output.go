package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier/observe"
)

// asJSON prints for programs, and asYAML for programs and people.
func asJSON[T any](w io.Writer, value T) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "    ")
	err := e.Encode(value)
	if err == nil {
		_, err = w.Write(observe.EscapeJSON(text.Bytes()))
	}
	return err
}

func asYAML[T any](w io.Writer, value T) error {
	text, err := sigsyaml.Marshal(value)
	if err != nil || printableLines(string(text)) != string(text) {
		return asJSON(w, value) // which is YAML too, and can escape everything
	}
	_, err = w.Write(text)
	return err
}

// printableLines is observe.Printable for a text that may have several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = observe.Printable(line)
	}
	return strings.Join(lines, "\n")
}

func orNone(cell string) string {
	if cell == "" {
		return "<none>"
	}
	return cell
}
