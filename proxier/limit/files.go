package limit

import "golang.org/x/sys/unix"

// What connections and listeners take of the files that a process may have open.
const (
	FilesPerConnection = 2 // the two sockets
	FilesPerListener   = 1 // its socket; those of UDP are also read from others, which are counted by themselves

	// Pipes is how many bulk streams have a pipe at a time, which takes two files. Those
	// beyond are moved without.
	Pipes = 64

	// Reserve is how many files are for everything else: connections to the API
	// server, netlink, the pipes of iptables, health, metrics, the admin socket, logs,
	// attempts to connect beside the first, connections that were accepted and are not
	// counted yet, and Pipes.
	Reserve = 256 + 2*Pipes
)

const (
	fewestConnections = 16
	mostWaiting       = 4096 // in the process: each also takes some 10 kB of memory
)

// Files is how many files this process may have open now: its soft limit,
// RLIMIT_NOFILE in getrlimit(2), which somebody else can change at any time
// (prlimit(1)).
//
// There is no need to raise it to the hard limit: Go does so before main, to one less
// than that ($GOROOT/src/syscall/rlimit.go and https://go.dev/issue/46279), and gives
// child processes the one that we were started with. Only the hard limit has to be
// high enough (LimitNOFILE= in systemd.exec(5)).
func Files() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	return int(min(limit.Cur, 1<<30))
}

// Free is how many files are left for connections and UDP sessions beside so many
// listening sockets. It is less than zero if there are too many of these already.
func Free(listeners int) int { return Files() - Reserve - listeners*FilesPerListener }

// RoomIn is how many connections fit into so many files. A sixteenth of them is for
// those that wait, which have no file but the client's socket.
//
// Whatever the number, 16 connections fit. With 0 to 32 files they take up to 32 out
// of the Reserve and leave 352 of it: a Service that answers few is better than one
// that answers nobody. Less than 0 is a process that should have fewer listening
// sockets, or none: one is to be opened only if half of the Reserve stays free.
func RoomIn(files int) Room {
	waiting := min(max(files/16, 0), mostWaiting)
	return Room{
		Connections: max((files-waiting)/FilesPerConnection, fewestConnections),
		Waiting:     waiting,
	}
}
