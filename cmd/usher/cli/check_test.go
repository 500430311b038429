package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/preflight"
)

var checked = []preflight.Result{
	{Name: "iptables", Level: preflight.OK, Text: "iptables 1.8.9 (nf_tables) can write the rules that usher needs"},
	{Name: "policy routing", Level: preflight.Warn, Text: "there is none", Do: "use another kernel"},
	{Name: "kube-proxy", Level: preflight.Fail, Text: "kube-proxy runs\x1b[31m (process 7)", Do: "stop it"},
}

func TestCheckLines(t *testing.T) {
	for format, want := range map[string]string{
		"text": `OK    iptables        iptables 1.8.9 (nf_tables) can write the rules that usher needs
WARN  policy routing  there is none. To do: use another kernel
FAIL  kube-proxy      kube-proxy runs?[31m (process 7). To do: stop it
`,
		"json": `[
    {
        "name": "iptables",
        "level": "OK",
        "text": "iptables 1.8.9 (nf_tables) can write the rules that usher needs"
    },
    {
        "name": "policy routing",
        "level": "WARN",
        "text": "there is none",
        "do": "use another kernel"
    },
    {
        "name": "kube-proxy",
        "level": "FAIL",
        "text": "kube-proxy runs\u001b[31m (process 7)",
        "do": "stop it"
    }
]
`,
	} {
		var out strings.Builder
		if err := checkFormats[format](&out, checked); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", format, err, out.String(), want)
		}
	}
}

func TestCheckThatCannotBeMeant(t *testing.T) {
	for args, want := range map[string]string{
		"--output=xml":    "--output=xml: want text or json",
		"--capture=magic": "--capture=magic: want auto, iptables or bind",
		"stray":           `unexpected argument "stray"`,
	} {
		root := newRoot(nil)
		root.SetArgs([]string{"check", args})
		if err := root.Execute(); err == nil || !isUsage(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("usher check %s: %v, want %q", args, err, want)
		}
	}
	root := newRoot(nil)
	root.SetArgs([]string{"cleanup", "--force"})
	if err := root.Execute(); !errors.As(err, &usageError{}) {
		t.Errorf("usher cleanup --force: %v", err)
	}
}
