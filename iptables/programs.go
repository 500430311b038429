package iptables

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are those of one family and one backend.
type programs struct {
	command string // iptables: as go-iptables is told to use it
	restore string // iptables-restore
	save    string // iptables-save
	backend string
}

// command returns the family's iptables program.
func (f Family) command() string {
	if f == IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// findPrograms finds the command in $PATH, and its companions beside it.
func findPrograms(ctx context.Context, x execer, command string) (programs, error) {
	path, err := exec.LookPath(command)
	if err != nil {
		return programs{}, fmt.Errorf("%w: install the iptables package", err)
	}
	backend, err := backendOf(ctx, x, path)
	if err != nil {
		return programs{}, err
	}
	for _, prefix := range companions(path, backend) {
		restore := prefix + "-restore"
		if found, err := backendOf(ctx, x, restore); err == nil && found == backend {
			return programs{command: path, restore: restore, save: prefix + "-save", backend: backend}, nil
		}
	}
	return programs{}, fmt.Errorf("%s-restore of the backend of %s (%s) not found: install it beside", path, path, backend)
}

// companions returns what the names of iptables-restore and iptables-save of
// the backend may begin with: what the command is called, and the name that
// says the backend, for when the plain names were pointed to different ones.
func companions(path, backend string) []string {
	family, _, _ := strings.Cut(filepath.Base(path), "-")
	suffix := "-legacy"
	if backend == backendNFT {
		suffix = "-nft"
	}
	return []string{path, filepath.Join(filepath.Dir(path), family+suffix)}
}

// The backends as iptables calls them (iptables(8), xtables-nft(8)). Rules made
// through one are not seen through the other.
const (
	backendNFT    = "nf_tables"
	backendLegacy = "legacy"
)

// backendOf asks a program for its version. Before 1.8 there was one backend,
// and nobody named it.
func backendOf(ctx context.Context, x execer, program string) (string, error) {
	version, err := x.run(ctx, "", program, "--version")
	if err != nil {
		return "", err
	}
	if strings.Contains(version, "("+backendNFT+")") {
		return backendNFT, nil
	}
	return backendLegacy, nil
}
