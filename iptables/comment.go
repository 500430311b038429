package iptables

import "strings"

// maxComment is what the kernel has room for (XT_MAX_COMMENT_LEN less the NUL).
const maxComment = 255

// comment makes a name fit to be a rule's comment: nothing in it has a meaning
// to iptables-restore, and it is not too long. The names of Kubernetes objects
// pass unchanged.
func comment(name string) string {
	if len(name) > maxComment {
		name = name[:maxComment]
	}
	return strings.Map(func(r rune) rune {
		if plain(r) || r == '/' {
			return r
		}
		return '_'
	}, name)
}

// plain says whether a character has no meaning to iptables-restore, nor to
// iptables in the name of an interface.
func plain(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return r == '.' || r == '_' || r == ':' || r == '-'
}
