package iptables

import "strings"

// maxComment is what the kernel has room for (XT_MAX_COMMENT_LEN less the NUL).
const maxComment = 255

// comment makes a name fit to be a rule's comment: nothing in it has a meaning
// to iptables-restore, it is not too long, and does not begin like an option, so
// that no iptables-restore can take it for one where it stands without quotes. The
// names of Kubernetes objects pass unchanged.
func comment(name string) string {
	if len(name) > maxComment {
		name = name[:maxComment]
	}
	if rest, ok := strings.CutPrefix(name, "-"); ok {
		name = "_" + rest
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

// quoted puts a comment in quotes where iptables-save does (xtables_save_string),
// so that the rules can be compared.
func quoted(comment string) string {
	bare := strings.IndexFunc(comment, func(r rune) bool { return r == '/' || r == '.' || r == ':' }) < 0
	if bare {
		return comment
	}
	return `"` + comment + `"`
}
