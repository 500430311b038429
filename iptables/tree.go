package iptables

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

const (
	// fullChain is how many redirects, or blocks of listener ports, one chain may
	// have: more are split among others, as long as they differ in what they match.
	fullChain = 32
	// stepBits is how many bits a split looks at, so that a chain leads to at most
	// four others. Fewer would make more chains, and more would make them uneven:
	// of 10,000 addresses in a /16, 4 bits would leave two in each chain.
	stepBits = 2
	// maxDepth bounds how many chains lead to a redirect. The kernel refuses rules
	// of nft that jump or go through more than 16 (NFT_JUMP_STACK_SIZE in
	// include/net/netfilter/nf_tables.h), and three come before the tree.
	maxDepth = 12
)

// key is what a frontend is found by, as one number: address, protocol, port.
// Keys sort as compare sorts redirects.
type key [19]byte

// keyBits are all of a key, portBits those at its end that are the port.
const (
	addrBits = 128
	keyBits  = 8 * len(key{})
	portBits = 16
)

func (d Redirect) key() (k key) {
	addr := d.Addr.As16()
	copy(k[:], addr[:])
	if d.Protocol == UDP {
		k[16] = 1
	}
	k[17], k[18] = byte(d.Port>>8), byte(d.Port)
	return k
}

// common is how many bits two keys have in common at their beginning.
func (k key) common(other key) int {
	for i := range k {
		if different := k[i] ^ other[i]; different != 0 {
			return 8*i + bits.LeadingZeros8(different)
		}
	}
	return keyBits
}

// cell is a part of the frontends: those whose keys begin as that of a redirect
// does.
type cell struct {
	of   Redirect
	bits int // a multiple of stepBits
}

// match renders what belongs to the cell, as iptables prints it.
func (c cell) match() string {
	if c.bits <= addrBits {
		return within("-d", c.prefix())
	}
	addr := ""
	if c.of.Addr.IsValid() {
		addr = within("-d", c.prefix())
	}
	if c.bits <= keyBits-portBits {
		return addr + "-p " + string(c.of.Protocol) + " "
	}
	return addr + c.ports().match(c.of.Protocol) + " "
}

// prefix holds the addresses of the cell.
func (c cell) prefix() netip.Prefix {
	all := c.of.Addr.BitLen()
	p, _ := c.of.Addr.Prefix(min(all, c.bits-addrBits+all))
	return p
}

// ports are those of the cell.
func (c cell) ports() block { return around(c.of.Port, keyBits-c.bits) }

// around is the block of 2^n ports that a port is in, from a multiple of that on.
func around(port uint16, n int) block {
	mask := uint16(1<<n - 1)
	return block{port &^ mask, port | mask}
}

// name tells the cell to a reader where there is room for it.
func (c cell) name() string {
	var words []string
	if c.of.Addr.IsValid() {
		words = append(words, strings.ReplaceAll(c.prefix().String(), ":", "-"))
	}
	if c.bits > addrBits {
		words = append(words, strings.ToUpper(string(c.of.Protocol)))
	}
	if c.bits > keyBits-portBits {
		words = append(words, fmt.Sprintf("%d-%d", c.ports().first, c.ports().last))
	}
	return fitting(strings.Join(words, "-"))
}

// maxName is how long the name of a chain may be (XT_EXTENSION_MAXNAMELEN less
// the NUL).
const maxName = 28

// fitting shortens a name to what there is room for between prefix and suffix.
func fitting(name string) string {
	if len(chainPrefix)+len(name)+len(dnatSuffix) <= maxName {
		return name
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:16]
}

// tree spreads redirects over chains, so that a packet passes some of them only.
type tree struct {
	suffix string // of all names
	rules  func(chain string, redirects []Redirect) []string
	chains []chain
}

// grow adds a chain for the redirects, which are sorted, and those that it leads
// to. Whoever goes into a chain belongs to none of its siblings, so there is no
// way back to them (-g). Redirects of one frontend stay together in their order.
func (t *tree) grow(name string, redirects []Redirect, depth int) {
	if len(redirects) <= fullChain || depth == maxDepth {
		t.chains = append(t.chains, chain{name, t.rules(name, redirects)})
		return
	}
	shared := redirects[0].key().common(redirects[len(redirects)-1].key())
	if shared == keyBits {
		t.chains = append(t.chains, chain{name, t.rules(name, redirects)})
		return
	}
	at := len(t.chains)
	t.chains = append(t.chains, chain{name: name})
	length := shared - shared%stepBits + stepBits
	var jumps []string
	for len(redirects) > 0 {
		c := cell{redirects[0], length}
		n := c.count(redirects)
		child := chainPrefix + c.name() + t.suffix
		jumps = append(jumps, c.match()+"-g "+child)
		t.grow(child, redirects[:n], depth+1)
		redirects = redirects[n:]
	}
	t.chains[at].rules = jumps
}

// count is how many of the first redirects belong to the cell.
func (c cell) count(redirects []Redirect) int {
	first := c.of.key()
	return sort.Search(len(redirects), func(i int) bool { return first.common(redirects[i].key()) < c.bits })
}

// sameRedirects says whether two lists would be rendered the same.
func sameRedirects(a, b []Redirect) bool {
	return slices.EqualFunc(a, b, func(a, b Redirect) bool { return compare(a, b) == 0 })
}
