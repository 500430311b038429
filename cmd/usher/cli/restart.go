package cli

import (
	"context"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/systemd"
)

// fdStore is that of the unit, nil if there is none.
func (s *supervised) fdStore() *fdStore {
	if s == nil {
		return nil
	}
	return s.store
}

// restartTries are how often it is tried to hand over: what does not rest within two seconds may
// do so later, and all connections end otherwise. It is a small part of TimeoutStopSec=.
const restartTries = 5

// restart is for a process that is asked to stop: if systemd means to start another one, all
// that is being served waits for that, and it returns true. Run ends then by itself. Otherwise
// nothing has changed.
func (s *fdStore) restart(p *proxier.Proxier) bool {
	if s == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	manager, err := systemd.Connect(ctx)
	if err != nil {
		s.log.WithError(err).Warn("cannot tell a restart from a stop: usher stops")
		return false
	}
	defer manager.Close()
	unit, err := manager.OwnUnit(ctx)
	if err != nil {
		s.log.WithError(err).Warn("cannot tell a restart from a stop: usher stops")
	}
	if unit.Job != "restart" {
		return false
	}
	s.shelf.Close()
	if unit.Stored, err = manager.Stored(ctx, unit.Name); err != nil {
		s.log.WithError(err).Error("handover: usher stops, as nothing can wait for the restart")
		return false
	}
	for try := 1; ; try++ {
		if err = s.handOver(p, manager, unit); err == nil || try == restartTries {
			break
		}
		s.log.WithError(err).Warn("handover: not yet, once more")
	}
	if err != nil {
		s.log.WithError(err).Error("handover: usher stops, as nothing can wait for the restart")
		return false
	}
	return true
}

// handOver has everything wait in the store.
func (s *fdStore) handOver(p *proxier.Proxier, manager *systemd.Manager, unit systemd.Unit) error {
	return p.HandOver(context.Background(), func(parcel handover.Parcel) error {
		select {
		case <-p.Ready():
			s.log.Infof("handover: systemd restarts %s, and everything waits in its store", unit.Name)
			return s.put(parcel, manager, unit)
		default: // it serves nobody yet, and what there is lies on the shelf
			return nil
		}
	})
}

// clear has systemd let go of everything: clients are to be refused from now on.
func (s *fdStore) clear() {
	if s == nil {
		return
	}
	if err := s.shelf.Clear(); err != nil {
		s.log.WithError(err).Warn("some sockets stay open in systemd's store until the unit has ended")
	}
}
