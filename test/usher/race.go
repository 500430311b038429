//go:build race

package usher

// raceEnabled: tests under the race detector run a daemon under it too.
const raceEnabled = true
