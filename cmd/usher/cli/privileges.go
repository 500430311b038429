package cli

import (
	"fmt"
	"io/fs"
	"maps"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// kept are the capabilities that usher uses as long as it runs, itself and by iptables:
// CAP_NET_ADMIN for rules, routes, marks, transparent sockets and connection tracking,
// CAP_NET_BIND_SERVICE for ports below 1024, CAP_NET_RAW for iptables-legacy.
var kept = []cap.Value{cap.NET_BIND_SERVICE, cap.NET_ADMIN, cap.NET_RAW}

func keptNames() string {
	names := make([]string, len(kept))
	for i, c := range kept {
		names[i] = strings.ToUpper(c.String())
	}
	return strings.Join(names, ", ")
}

// limitPrivileges gives up, in all threads and for all programs that usher starts, the
// capabilities that are not kept, and that a program may bring more (no_new_privs). It
// comes after what is done once: to raise limits, to set sysctls, to load modules, and to
// read what others own. An ordinary user has nothing to give up.
func limitPrivileges(log logrus.FieldLogger) error {
	held := cap.GetProc()
	if permitted(held) == "" {
		return nil
	}
	joinGroup(log)
	if err := limitCapabilities(held); err != nil {
		return fmt.Errorf("give up capabilities: %w (--keep-privileges keeps them)", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("forbid new privileges: %w (--keep-privileges allows them)", err)
	}
	log.Infof("of its privileges usher keeps: %s", permitted(cap.GetProc()))
	return nil
}

// limitCapabilities changes nothing where no more is held than is kept: to try would be
// forbidden by a unit's SystemCallFilter=.
func limitCapabilities(held *cap.Set) error {
	// What is not kept in the bounding set, no program gets by being root's. Without
	// CAP_SETPCAP no_new_privs has to do for that.
	if can, err := held.GetFlag(cap.Effective, cap.SETPCAP); err == nil && can {
		if err := cap.DropBound(slices.DeleteFunc(all(), func(c cap.Value) bool {
			bound, err := cap.GetBound(c)
			return err != nil || !bound || slices.Contains(kept, c)
		})...); err != nil {
			return err
		}
	}
	less := cap.NewSet()
	for _, c := range kept {
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective, cap.Inheritable} {
			if has, err := held.GetFlag(flag, c); err == nil && has {
				if err := less.SetFlag(flag, true, c); err != nil {
					return err
				}
			}
		}
	}
	if same, err := held.Cf(less); err == nil && same == 0 {
		return nil
	}
	return less.SetProc() // the ambient ones follow
}

// all are the capabilities that this kernel knows.
func all() []cap.Value {
	list := make([]cap.Value, cap.MaxBits())
	for i := range list {
		list[i] = cap.Value(i)
	}
	return list
}

// permitted are the names of those that a process may use.
func permitted(set *cap.Set) string {
	var names []string
	for _, c := range all() {
		if has, err := set.GetFlag(cap.Permitted, c); err == nil && has {
			names = append(names, strings.ToUpper(c.String()))
		}
	}
	return strings.Join(names, ", ")
}

// joinGroup makes the process a member of the group that the admin socket is for: to give it
// a file otherwise takes CAP_CHOWN.
func joinGroup(log logrus.FieldLogger) {
	group, err := user.LookupGroup("usher")
	if err != nil {
		return // there is none
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil || slices.Contains(groups, gid) || syscall.Getegid() == gid {
		return
	}
	if err := syscall.Setgroups(append(groups, gid)); err != nil {
		log.WithError(err).Debug("cannot join the group usher")
	}
}

// limitPrivileges does so unless --keep-privileges, and warns of files that can no longer be
// used: to the files of others, a root without CAP_DAC_OVERRIDE is an ordinary user.
func (o *options) limitPrivileges(log logrus.FieldLogger) error {
	if o.running.keepPrivileges {
		return nil
	}
	usable := o.usedAgain()
	maps.DeleteFunc(usable, func(path string, mode uint32) bool { return unix.Access(path, mode) != nil })
	if err := limitPrivileges(log); err != nil {
		return err
	}
	for path, mode := range usable {
		if err := unix.Access(path, mode); err != nil {
			log.Warnf("%v: usher has given up the right to use what others own; make it root's, or use --keep-privileges",
				&fs.PathError{Op: "access", Path: path, Err: err})
		}
	}
	return nil
}

// usedAgain are the files that usher does not only use at its start, with what it does there.
func (o *options) usedAgain() map[string]uint32 {
	used := map[string]uint32{}
	for _, path := range append([]string{o.file.path, o.source.kubeconfig}, o.source.manifests...) {
		used[path] = unix.R_OK
	}
	for _, path := range []string{o.seen.logFile, o.admin.socket} {
		if path != "" {
			used[filepath.Dir(path)] = unix.W_OK | unix.X_OK
		}
	}
	delete(used, "")
	return used
}
