//go:build !race

package usher

const raceEnabled = false
