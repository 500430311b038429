package annotation

// Nearest returns the one of the known words that an unknown one is probably a
// typing error of, and false if it is like none. The first of several that are
// equally near is returned. Letters count as bytes.
func Nearest(unknown string, known []string) (string, bool) {
	best, least := "", 2+len(unknown)/4
	for _, k := range known {
		if difference := len(k) - len(unknown); difference >= least || -difference >= least {
			continue // also bounds the work that a long word makes
		}
		if d := distance(unknown, k); d < least {
			best, least = k, d
		}
	}
	return best, best != ""
}

// distance is how many letters have to be put in, taken out or changed to make b
// of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
