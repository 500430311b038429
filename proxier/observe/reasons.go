package observe

import (
	"maps"
	"slices"
)

// Reasons are all that a record or an attempt may have, by name.
func Reasons() []Reason { return slices.Sorted(maps.Keys(meanings)) }
