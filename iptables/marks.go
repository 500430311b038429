package iptables

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// ForeignMarks returns the rules of others that use bits of the mark, each with
// its table and as iptables-save prints it. Such a rule may take our
// connections for its own, or take the mark off, so that they come back to us.
// Rules of nft's own tables are not seen.
func (t *Table) ForeignMarks(ctx context.Context, m Mark) ([]string, error) {
	saved, err := t.save(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for %v rules that use mark %#x/%#x: %w", t.family, m.Value, m.Mask, err)
	}
	return foreignMarks(saved, m), nil
}

// foreignMarks finds the rules in the output of iptables-save.
func foreignMarks(saved string, m Mark) []string {
	var found []string
	table := ""
	for l := range strings.Lines(saved) {
		l = strings.TrimSpace(l)
		if name, ok := strings.CutPrefix(l, "*"); ok {
			table = name
			continue
		}
		if strings.HasPrefix(l, "-A ") && !strings.HasPrefix(l, "-A "+chainPrefix) && usesMark(l, m) {
			found = append(found, table+": "+l)
		}
	}
	return found
}

// usesMark says whether a rule reads or writes bits of the mark (see
// iptables-extensions(8): mark, MARK, CONNMARK, TPROXY).
func usesMark(rule string, m Mark) bool {
	match, target := "", ""
	restores, mask := false, uint32(allBits)
	for flag, value := range flags(rule) {
		switch flag {
		case "-m":
			match = value
		case "-j":
			target = value
		case "--mark":
			if match == "mark" && compares(value, m) {
				return true
			}
		case "--set-xmark", "--set-mark":
			if target == "MARK" && parseMark(value).Mask&m.Mask != 0 {
				return true
			}
		case "--tproxy-mark":
			if parseMark(value).Mask&m.Mask != 0 {
				return true
			}
		case "--restore-mark", "--save-mark":
			restores = target == "CONNMARK"
		case "--nfmask":
			mask = parseMark(value).Value
		}
	}
	return restores && mask&m.Mask != 0
}

// compares says whether a match means something by our bits. One that compares
// the whole mark with a value in which they are clear does not.
func compares(value string, m Mark) bool {
	other := parseMark(value)
	if other.Mask == allBits {
		return other.Value&m.Mask != 0
	}
	return other.Mask&m.Mask != 0
}

const allBits = 1<<32 - 1

// parseMark reads VALUE or VALUE/MASK. What cannot be read is taken to use all
// bits.
func parseMark(s string) Mark {
	value, mask, masked := strings.Cut(s, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return Mark{allBits, allBits}
	}
	bits := uint64(allBits)
	if masked {
		if bits, err = strconv.ParseUint(mask, 0, 32); err != nil {
			return Mark{allBits, allBits}
		}
	}
	return Mark{uint32(v), uint32(bits)}
}
