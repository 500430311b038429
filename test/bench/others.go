package bench

import (
	"os"
	"runtime"
	"time"
)

// quietly measures until the other programs of the machine leave the processors to it, so many
// times at most, and returns the values of the time that they did so most.
func quietly(tries int, measure func() (map[string]float64, error)) (best map[string]float64, err error) {
	for range tries {
		before, err := othersCPU()
		if err != nil {
			return nil, err
		}
		start := time.Now()
		values, err := measure()
		if err != nil {
			return nil, err
		}
		after, err := othersCPU()
		if err != nil {
			return nil, err
		}
		// What ends while the processes are read may be missing afterwards.
		values[others] = 100 * max(0, after-before).Seconds() / time.Since(start).Seconds() / float64(runtime.NumCPU())
		if best == nil || values[others] < best[others] {
			best = values
		}
		if best[others] <= *quiet {
			break
		}
	}
	return best, nil
}

// othersCPU is the time that processors have worked for other programs than this one and those
// it started.
func othersCPU() (time.Duration, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for pid := range all {
		if !descends(all, pid, os.Getpid()) && !descends(all, pid, kthreadd) {
			sum += all[pid].cpu + all[pid].children // the sum does not change as a process ends
		}
	}
	return sum, nil
}

// kthreadd is the parent of the kernel's threads, some of which move the datagrams.
const kthreadd = 2

// descends tells whether a process is another one or was started by it, or by one that was.
func descends(all map[int]process, pid, ancestor int) bool {
	for range len(all) { // processes come and go while they are read: no circle is for ever
		if pid == ancestor {
			return true
		}
		p, ok := all[pid]
		if !ok {
			return false
		}
		pid = p.parent
	}
	return false
}
