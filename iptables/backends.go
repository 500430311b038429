package iptables

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Backend is iptables of one family and one backend, as it is installed here.
// Rules made through one backend are not seen through the other, though both
// are in force.
type Backend struct {
	Family Family
	// Name is what iptables calls it: nf_tables or legacy.
	Name string
	// Version of the program, as in 1.8.9.
	Version string
	// Default says that the family's iptables in $PATH has this backend, which
	// New therefore uses.
	Default bool

	programs programs
	exec     execer
}

// String is as in "ip6tables 1.8.9 (nf_tables)".
func (b Backend) String() string {
	return fmt.Sprintf("%s %s (%s)", b.Family.command(), b.Version, b.Name)
}

// Backends returns those whose programs are in $PATH, at most two for each
// family, the default first. It looks at no rules, and needs no privileges.
func Backends(ctx context.Context) []Backend { return backends(ctx, osExec{}) }

func backends(ctx context.Context, x execer) (all []Backend) {
	for _, family := range []Family{IPv4, IPv6} {
		have := map[string]bool{}
		for _, suffix := range []string{"", "-nft", "-legacy"} {
			b, err := findBackend(ctx, x, family, suffix)
			if err == nil && !have[b.Name] {
				have[b.Name] = true
				all = append(all, b)
			}
		}
	}
	return all
}

var versionNumber = regexp.MustCompile(`v([0-9.]+)`)

func findBackend(ctx context.Context, x execer, family Family, suffix string) (Backend, error) {
	p, err := findPrograms(ctx, x, family.command()+suffix)
	if err != nil {
		return Backend{}, err
	}
	said, err := x.run(ctx, "", p.command, "--version")
	if err != nil {
		return Backend{}, err
	}
	b := Backend{Family: family, Name: backendLegacy, Version: "of unknown version", Default: suffix == "", programs: p, exec: x}
	if strings.Contains(said, "("+backendNFT+")") {
		b.Name = backendNFT
	}
	if number := versionNumber.FindStringSubmatch(said); number != nil {
		b.Version = number[1]
	}
	return b, nil
}

// Installed says whether the program itself is in $PATH, usable or not.
func (f Family) Installed() bool {
	_, err := exec.LookPath(f.command())
	return err == nil
}

// Save returns the rules of all tables that are in use, as iptables-save prints
// them. It neither makes tables nor loads modules: iptables-save without a table's
// name prints those that are there.
func (b Backend) Save(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	saved, err := b.exec.run(ctx, "", b.programs.save)
	if err != nil {
		return "", fmt.Errorf("read the rules of %v: %w", b, err)
	}
	return saved, nil
}

// CountRules counts the rules and the chains that are not the kernel's own, in
// what Save returns: 0 if nobody uses this backend.
func CountRules(saved string) (n int) {
	for l := range strings.Lines(saved) {
		if strings.HasPrefix(l, "-A ") || strings.HasPrefix(l, ":") && strings.Contains(l, " - ") {
			n++
		}
	}
	return n
}

// restore writes to the kernel what iptables-restore reads.
func (b Backend) restore(ctx context.Context, input string) error {
	t := Table{family: b.Family, programs: b.programs, exec: b.exec, timeout: defaultTimeout, lockWait: lockWait}
	return t.restore(ctx, input)
}
