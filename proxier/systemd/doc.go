// Package systemd is the service's side of systemd's protocols: readiness, status and
// watchdog (sd_notify(3)), and the file descriptor store, in which sockets outlive the
// process (systemd.service(5): FileDescriptorStoreMax=).
//
//	systemd.Store("l", fds...)         // before the end
//	systemd.Barrier(ctx)               // the manager has them
//	...
//	files, err := systemd.Stored()     // in the next process
//
// A [Shelf] keeps files there as they come and go, for a crash. [OwnUnit] asks by D-Bus what the
// manager has to do with the unit: a restart is told from a stop by it.
//
// Where no service manager listens, which is where $NOTIFY_SOCKET is not set, everything here
// does nothing and succeeds. A manager that does not read costs [patience] at most. All
// functions are safe for concurrent use but [Stored].
//
// A message counts only if the unit's NotifyAccess= admits its sender; main is enough, also
// for a process that has executed another program in its place. The manager tells nobody
// that it has refused one: [Barrier] says that messages have been read, not obeyed.
package systemd
