package cli

import (
	"encoding/json"
	"io"

	sigsyaml "sigs.k8s.io/yaml"
)

// asJSON prints for programs, and asYAML for programs and people.
func asJSON[T any](w io.Writer, value T) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "    ")
	return e.Encode(value)
}

func asYAML[T any](w io.Writer, value T) error {
	text, err := sigsyaml.Marshal(value)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}
