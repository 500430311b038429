// Package handover brings what one process of usher serves to the next one, so that no
// connection ends with the process that has it: a state, and the files that it speaks of.
//
//	// the old process
//	cookie, _ := handover.Cookie(fd)       // the state names its sockets so
//	p := handover.Parcel{State: encode(cookie), Files: []int{fd}}
//	err := handover.Try(ctx, path, os.Args, os.Environ(), p, 5*time.Second)
//	if err == nil {
//		err = handover.Exec(path, os.Args, os.Environ(), p)
//	}
//	log.Print(err)                         // and on with everything as it was
//
//	// the new one, at the start of main
//	p, err := handover.Received()
//	if p != nil {
//		files := handover.NewFiles(p.Files)
//		fd, ok := files.Take(decode(p.State)) // ok: ours now
//		files.Close()                         // what the state does not name
//	}
//	if handover.InTrial() {
//		check(p)
//		err := handover.Good()             // and end
//	}
//
// # One parcel, several ways
//
// A [Parcel] travels by a unix socket: first the state, in a memfd that nobody can change
// any more and with a checksum, then the files, 253 in a message (SCM_RIGHTS, unix(7)).
//
//   - [Exec] puts all of it into the buffer of a socket that the program executed inherits.
//   - [Try] gives it to a child, which says by the same socket that all is well.
//   - [Give] and [Take] bring it to a process that was started beside this one, as in a new
//     container. They agree on who has it, whatever becomes of either: until the new one has
//     checked it all and said so it is the old one's, which waits for seconds at most.
//   - [Post] makes one file of it, which somebody else may keep, as systemd does, until the
//     next process calls [Open]. It may be one of the files of another parcel, to be opened
//     later: what is needed first comes first.
//   - [Send] and [Receive] are what these are made of.
//
// The receiver has dups with new numbers, all of them CLOEXEC: hence cookies. Nothing is
// inherited but that one socket, so a parcel that is broken, or that nobody wants, ends
// with it, and nothing is left open. A parcel has at most 1,048,576 files and 256 MiB.
//
// # What a program executed inherits
//
// It is the same process to everybody: number, start time, parent, children, user,
// cgroup, namespaces and credentials of the thread that calls Exec, current directory,
// umask, nice and OOM scores, resource limits, seccomp filters, no_new_privs, the
// parent-death signal, interval timers of setitimer(2). Mind these:
//
//   - Children go on, and the program does not know of them: wait for them before.
//   - Ignored signals stay ignored. SIGHUP is, too, so that a second one does no harm before
//     the program asks for it with signal.Notify; one that comes until then is lost. All
//     other signals do by default what they do, until then: SIGTERM ends the process.
//   - Blocked signals stay blocked. Threads of Go block what the process was started with.
//   - The soft limit of open files is what the process was started with: Go lowers it, and
//     raises it again when the program starts. After an Exec that failed usher has its own
//     limit back, but children that it starts from then on have that too.
//   - Capabilities are computed anew (capabilities(7)): root gets those of the bounding set,
//     another user the ambient ones only.
//   - Files are closed as FD_CLOEXEC says, so that epoll instances, timers and flock(2) end;
//     what is slow to close (SlowToClose) is better among the Parcel's files.
//     A crash before the program has the files loses them, unless somebody else has them
//     too, such as systemd's fd store.
//
// # Trials
//
// While a trial lasts the child has every file too. A socket closed here is closed for its
// peer when the child ends; shutdown(2) is seen at once. For the same reason an epoll
// instance forgets a file only by EPOLL_CTL_DEL, which Go's own poller always uses.
//
// The child has a process group of its own and ends with it, and with the thread that
// runs Try. A grandchild that leaves the group (setsid(2)) is not found.
//
// # Who may be executed
//
// A program at an absolute path, which nobody but root and the user whom usher runs as can
// write to. Directories on the way to it are not looked at.
//
// # Reading the code
//
// parcel.go has the format and memfd.go where it lies ([Write] and [Read] for a state without
// files), socket.go is the way they all go.
// exec.go and received.go are the two sides of Exec, with hangup.go for SIGHUP; try.go and
// intrial.go those of Try, with lastwords.go for stderr. takeover.go has Give and Take. program.go says what is wrong with
// a program, files.go is for what has arrived. slow.go finds files that an Exec would wait for.
package handover
