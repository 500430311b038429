package cli

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// followerNice is the nice value (sched(7)) of who follows usher: a tenth of its share of a
// processor that both want.
const followerNice = 10

// giveWay has this process give way to the one that it follows: on a busy node what is seen
// comes later instead of what is served. It is a variable for tests, which go on after it.
var giveWay = lowerPriority

// lowerPriority is for every thread, as each has a nice value of its own; those that come have
// that of the thread that makes them. A process that has a higher one keeps it.
func lowerPriority() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		// The system call returns 20 minus the nice value.
		if value, err := unix.Getpriority(unix.PRIO_PROCESS, id); err == nil && 20-value < followerNice {
			unix.Setpriority(unix.PRIO_PROCESS, id, followerNice) // nobody needs a privilege for that
		}
	}
}
