package cli

import (
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

// Where the kernel needs no rules, that is said.
func TestWhyThereAreNoRules(t *testing.T) {
	for capture, want := range map[string]string{
		"bind":     "No rules are needed: the capture is bind, and usher listens on the Service addresses themselves.\n",
		"iptables": "No resources found\n",
	} {
		socket := telling(t, map[string]any{"/v1/rules": []admin.CapturedBy{}, "/v1/status": admin.Status{Capture: capture}})
		if out, messages, code := saidOf(t, "get", "rules", "-A", "--admin-socket="+socket); code != 0 || out != "" || messages != want {
			t.Errorf("%s: exit code %d, %q, %q", capture, code, out, messages)
		}
	}
}

// A kind that there is not is what is complained of, whatever flags come with it.
func TestKindsThatThereAreNot(t *testing.T) {
	for args, kinds := range map[string]string{
		"get pods -o wide --admin-socket=/nowhere": "connections, endpoints, listeners, rules, services, sessions",
		"get svc/web":                        "services",
		"kill pod a --yes":                   "connection",
		"drain node --admin-socket /nowhere": "endpoint",
	} {
		if _, messages, code := saidOf(t, strings.Fields(args)...); code != exitUsage || !strings.Contains(messages, "there is nothing of the kind") || !strings.Contains(messages, kinds) {
			t.Errorf("usher %s: exit code %d, %q", args, code, messages)
		}
	}
	if out, _, code := saidOf(t, "get"); code != 0 || !strings.Contains(out, "Available Commands") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestConnectTimesBelowAMillisecond(t *testing.T) {
	c := connectTime("P50", func(ms *float64) float64 { return *ms })
	for ms, want := range map[float64]string{-1: "-", 0: "0.00", 0.094: "0.09", 0.5: "0.50", 1: "1.0", 12.34: "12.3", 250: "250"} {
		if got := c.cell(&ms); got != want {
			t.Errorf("%g ms is %q, want %q", ms, got, want)
		}
	}
}
