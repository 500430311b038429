package observe

import (
	"net/netip"
	"net/url"
	"testing"
	"time"
)

// Clients are recorded by their IPv4 addresses, however somebody writes these.
func TestAFilterForMappedAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"::ffff:10.0.0.9":     "10.0.0.9/32",
		"::ffff:10.0.0.0/112": "10.0.0.0/16",
		"::ffff:0:0/96":       "0.0.0.0/0",
		"::/0":                "::/0",
		"10.1.2.3/8":          "10.0.0.0/8",
		"fe80::1%eth0":        "fe80::1/128",
	} {
		f, err := ParseFilter(url.Values{"client": {text}}, time.Now())
		if err != nil || f.Client != netip.MustParsePrefix(want) {
			t.Errorf("%s is %s, %v; want %s", text, f.Client, err, want)
		}
	}
}
