package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/jsonpath"

	"github.com/usher-proxy/usher/proxier/observe"
)

// template is a JSONPath template, as kubectl takes it. What is missing is empty.
func template(text string) (*jsonpath.JSONPath, error) {
	t := jsonpath.New("output").AllowMissingKeys(true)
	if err := t.Parse(text); err != nil {
		return nil, err
	}
	return t, nil
}

// field is a template for --sort-by, in which kubectl forgives that braces or the first
// dot are missing.
func field(path string) (*jsonpath.JSONPath, error) {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "{"), "}")
	if !strings.HasPrefix(path, ".") && !strings.HasPrefix(path, "[") {
		path = "." + path
	}
	return template("{" + path + "}")
}

// plain is a value as JSON would have it, of maps, lists, numbers and texts, in which
// everything is printable.
func plain(value any) (any, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return printableValue(v), nil
}

func printableValue(v any) any {
	switch of := v.(type) {
	case string:
		return observe.Printable(of)
	case []any:
		for i := range of {
			of[i] = printableValue(of[i])
		}
	case map[string]any:
		printable := make(map[string]any, len(of))
		for key, value := range of {
			printable[observe.Printable(key)] = printableValue(value)
		}
		return printable
	}
	return v
}

// asTemplate prints what a template makes of a value.
func asTemplate(w io.Writer, t *jsonpath.JSONPath, value any) error {
	v, err := plain(value)
	if err != nil {
		return err
	}
	if err := t.Execute(w, v); err != nil {
		return fmt.Errorf("--output=jsonpath: %w", err)
	}
	return nil
}

// sortKey is what a field of an item is sorted by: a number, or a text.
type sortKey struct {
	number float64
	text   string
}

func (k sortKey) compare(other sortKey) int {
	return cmp.Or(cmp.Compare(k.number, other.number), cmp.Compare(k.text, other.text))
}

// keyOf is the first that a field finds in an item.
func keyOf(t *jsonpath.JSONPath, item any) (sortKey, error) {
	v, err := plain(item)
	if err != nil {
		return sortKey{}, err
	}
	found, err := t.FindResults(v)
	if err != nil || len(found) == 0 || len(found[0]) == 0 {
		return sortKey{}, err
	}
	switch value := found[0][0].Interface().(type) {
	case int64:
		return sortKey{number: float64(value)}, nil
	case float64:
		return sortKey{number: value}, nil
	default:
		return sortKey{text: fmt.Sprint(value)}, nil
	}
}
