package proxier

import "slices"

// turnover finds what came and what went between two lists of pointers, by the
// pointers alone: whoever hands out such lists replaces what has changed, and never
// changes it. What stays costs a look-up of a pointer, and a list that is the same
// one as before costs nothing.
type turnover[T comparable] struct {
	last []T
	in   map[T]uint64 // the round in which it was seen last
	now  uint64
}

// update takes the list as it is now. Neither it nor what is returned may be changed
// afterwards.
func (t *turnover[T]) update(list []T) (came, went []T) {
	if t.in != nil && sameList(t.last, list) {
		return nil, nil
	}
	if t.in == nil {
		t.in = make(map[T]uint64, len(list))
	}
	t.now++
	stayed := 0
	for _, one := range list {
		switch round, known := t.in[one]; {
		case !known:
			came = append(came, one)
		case round == t.now:
			continue // twice in the list
		default:
			stayed++
		}
		t.in[one] = t.now
	}
	if stayed+len(came) < len(t.in) {
		for one, round := range t.in {
			if round != t.now {
				went = append(went, one)
				delete(t.in, one)
			}
		}
	}
	t.last = list
	return came, went
}

// sameList says whether two lists are one and the same.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// merged is a sorted list without what is gone and with what came: a copy, if that is
// anything. Of the list only the places are compared at which something comes.
func merged[T comparable](list, gone, came []T, compare func(a, b T) int) []T {
	if len(gone)+len(came) == 0 {
		return list
	}
	result := make([]T, 0, len(list)+len(came))
	if len(gone) > 0 {
		out := make(map[T]bool, len(gone))
		for _, g := range gone {
			out[g] = true
		}
		list = slices.DeleteFunc(slices.Clone(list), func(t T) bool { return out[t] })
	}
	for _, c := range slices.SortedFunc(slices.Values(came), compare) {
		i, _ := slices.BinarySearchFunc(list, c, compare)
		result = append(append(result, list[:i]...), c)
		list = list[i:]
	}
	return append(result, list...)
}
