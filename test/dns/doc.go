// Package dns has what most UDP in a cluster is made of: a name server that others wrote, nsd,
// and a resolver that others wrote, dig. Each nsd tells its own name, so that a client knows
// which one has answered it; dig takes no answer that does not come from the address and port
// that it asked, with the number of its question.
//
// Both are Debian packages: nsd, and bind9-dnsutils.
package dns
