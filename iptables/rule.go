package iptables

import (
	"iter"
	"strings"
)

// flags yields the flags of a rule as iptables prints it, each with the word
// after it if that is not a flag itself. A word that belongs to no flag, such
// as the ! of a negation, is yielded as the value of none.
func flags(rule string) iter.Seq2[string, string] {
	return func(yield func(flag, value string) bool) {
		all := words(rule)
		for i := 0; i < len(all); i++ {
			flag, value := "", all[i]
			if isFlag(all[i]) {
				flag, value = all[i], ""
				// A comment is a comment whatever it looks like.
				if i+1 < len(all) && (flag == "--comment" || !isFlag(all[i+1])) {
					i++
					value = all[i]
				}
			}
			if !yield(flag, value) {
				return
			}
		}
	}
}

func isFlag(word string) bool { return len(word) > 1 && word[0] == '-' }

// words splits a rule as iptables prints it: a word stands in double quotes if
// it needs them, and a backslash takes the next character for what it is.
func words(rule string) []string {
	var all []string
	var word strings.Builder
	inWord, inQuotes, escaped := false, false, false
	for _, r := range rule {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\':
			inWord, escaped = true, true
		case r == '"':
			inWord, inQuotes = true, !inQuotes
		case r == ' ' && !inQuotes:
			if inWord {
				all = append(all, word.String())
			}
			word.Reset()
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if inWord {
		all = append(all, word.String())
	}
	return all
}
