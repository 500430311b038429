package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/systemd"
)

// parcelName is the name of the one file in systemd's store that everything waits in while
// usher is started anew: a socket in whose buffer a Parcel lies.
//
// Stored one by one ten thousand files would take systemd most of a minute: it compares each
// one with all others. The sockets of a systemd.Shelf are beside it, for a crash.
const parcelName = "h"

// askTime is how long systemd may take to tell of the unit, storeTime to take what is stored.
const (
	askTime   = 3 * time.Second
	storeTime = 10 * time.Second
)

// fdStore is what systemd keeps of this service.
type fdStore struct {
	log      logrus.FieldLogger
	executed bool // this process has taken the place of another one
	shelf    *systemd.Shelf
}

// openStore finds the store of the unit, nil if there is none, and has cfg go on with what
// lies there, unless it has inherited already. Whatever is wrong with that is told, and usher
// starts without. files are what systemd has handed over.
func openStore(ctx context.Context, files []systemd.File, cfg *proxier.Config) *fdStore {
	if !systemd.Listens() {
		return nil
	}
	if len(files) == 0 && os.Getenv(storeEnv) == "" && !hasStore(ctx, cfg.Log) {
		return nil
	}
	s := &fdStore{log: cfg.Log, executed: cfg.Inherited != nil}
	has := s.sift(files)
	s.shelf = systemd.NewShelf(has, func(err error) {
		s.log.WithError(err).Warn("some sockets do not wait in systemd's store for a crash")
	})
	if cfg.Inherited == nil {
		cfg.Inherited = s.find(files, cfg)
	} else {
		closeFiles(files)
	}
	s.remove(parcelName) // it was there to be opened once
	cfg.Keeper = s
	return s
}

// storeEnv tells a program that takes the place of this one that there is a store.
const storeEnv = "USHER_FDSTORE"

// hasStore asks systemd, which takes a while.
func hasStore(ctx context.Context, log logrus.FieldLogger) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	unit, err := systemd.OwnUnit(ctx)
	if err != nil {
		log.WithError(err).Warn("nothing is kept in systemd's store for a restart or a crash")
	}
	return unit.StoreMax > 0
}

// sift returns what lies on the shelf, and has systemd let go of what means nothing.
func (s *fdStore) sift(files []systemd.File) (has []uint64) {
	var unknown []string
	for _, f := range files {
		cookie, err := handover.Cookie(f.FD)
		switch {
		case f.Name == parcelName || systemd.IsTable(f.Name):
		case err == nil && f.Name == systemd.KeptName(cookie):
			has = append(has, cookie)
		case !slices.Contains(unknown, f.Name):
			unknown = append(unknown, f.Name)
			s.remove(f.Name)
		}
	}
	return has
}

func (s *fdStore) remove(name string) {
	if err := systemd.Remove(name); err != nil {
		s.log.Warn(err)
	}
}

// find returns what this process can go on with: all that the one before has stored when it
// was stopped for a restart, else the sockets that it had before it crashed.
func (s *fdStore) find(files []systemd.File, cfg *proxier.Config) *proxier.Inheritance {
	found, rest := s.posted(files, cfg)
	if found != nil {
		closeFiles(rest)
		return found
	}
	return s.afterCrash(rest, cfg)
}

// posted opens parcels, of which there is one at most, and takes them out of the files.
func (s *fdStore) posted(files []systemd.File, cfg *proxier.Config) (found *proxier.Inheritance, rest []systemd.File) {
	for _, f := range files {
		if f.Name != parcelName {
			rest = append(rest, f)
			continue
		}
		one, err := openParcel(f.FD, cfg)
		if err != nil {
			s.log.WithError(err).Warn("cannot go on with the connections that wait in systemd's store: they end")
			continue
		}
		if found != nil {
			found.Close()
		}
		found = one
	}
	return found, rest
}

func openParcel(socket int, cfg *proxier.Config) (*proxier.Inheritance, error) {
	p, err := handover.Open(socket)
	if err != nil {
		return nil, err
	}
	return proxier.Inherit(*p, cfg)
}

// afterCrash goes by the newest table that can be read.
func (s *fdStore) afterCrash(files []systemd.File, cfg *proxier.Config) *proxier.Inheritance {
	p := handover.Parcel{}
	var made time.Time
	for _, f := range files {
		if !systemd.IsTable(f.Name) {
			p.Files = append(p.Files, f.FD)
			continue
		}
		state, at, err := readTable(f.FD)
		if err == nil && at.After(made) {
			p.State, made = state, at
		}
		if err != nil {
			s.log.WithError(err).Warn("cannot read what sockets in systemd's store are")
		}
	}
	if len(p.Files) == 0 {
		return nil
	}
	found, err := proxier.Inherit(p, cfg)
	if err == nil {
		return found
	}
	if p.State == nil {
		err = errors.New("nothing tells what they are")
	}
	s.log.WithError(err).Warnf("cannot go on with the %d sockets that wait in systemd's store", len(p.Files))
	return nil
}

// readTable closes the file. The time is when it was written.
func readTable(fd int) (state []byte, made time.Time, err error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, made, err
	}
	state, err = handover.Read(fd)
	return state, time.Unix(st.Mtim.Unix()), err
}

func closeFiles(files []systemd.File) {
	for _, f := range files {
		unix.Close(f.FD)
	}
}

// put stores all of a parcel for the process that is started next, and sees to it that it is
// there. unit is as it was before, with nothing else under way to its store.
func (s *fdStore) put(p handover.Parcel, manager *systemd.Manager, unit systemd.Unit) error {
	socket, err := handover.Post(p)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	if err := errors.Join(systemd.Store(parcelName, socket), systemd.Barrier(ctx)); err != nil {
		return errors.Join(err, systemd.Remove(parcelName))
	}
	stored, err := manager.Stored(ctx, unit.Name)
	if err == nil && stored <= unit.Stored {
		err = fmt.Errorf("systemd has not stored what it was sent: FileDescriptorStoreMax=%d, and it has %d files", unit.StoreMax, stored)
	}
	if err != nil {
		return errors.Join(err, systemd.Remove(parcelName))
	}
	return nil
}

// during stores a posted parcel while another program is put in the place of this one. It
// opens the one that it inherits, and has this one removed. It is read once, so that whatever
// happens only one process has it.
func (s *fdStore) during(socket int, exec func() error) error {
	if err := systemd.Store(parcelName, socket); err != nil {
		s.log.WithError(err).Warn("handover: a crash in this moment would end all connections")
	}
	defer s.remove(parcelName)
	return exec()
}

// Keep is that of proxier.Keeper.
func (s *fdStore) Keep(files []proxier.KeptFile, state func() ([]byte, error)) {
	kept := make([]systemd.Kept, len(files))
	for i, f := range files {
		kept[i] = systemd.Kept{ID: f.Cookie, FD: f.FD}
	}
	s.shelf.Keep(kept, func() (int, error) {
		b, err := state()
		if err != nil {
			return -1, err
		}
		return handover.Write(b)
	})
}

// Again is that of proxier.Keeper.
func (s *fdStore) Again() <-chan struct{} { return s.shelf.Again() }

// Has is that of proxier.Keeper.
func (s *fdStore) Has() []uint64 { return s.shelf.Has() }

// Continue is that of proxier.Keeper. A process that systemd has started knows better.
func (s *fdStore) Continue(cookies []uint64) {
	if s.executed {
		s.shelf.Continue(cookies)
	}
}
