package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

const (
	// rereadEvery finds what no notification told: a network file system has
	// none, and one may be lost.
	rereadEvery = 30 * time.Second
	// rereadBlind is used where the kernel grants no watch at all.
	rereadBlind = time.Second
)

// Manifests is the Source that reads YAML files and watches them. All methods
// may be called by several goroutines at once.
type Manifests struct {
	loader  *loader
	paths   []string
	log     logrus.FieldLogger
	faults  *quiet
	events  *quiet
	changed signal
	state   atomic.Pointer[Objects]

	watch func(paths []string) (*watcher, error) // newWatcher, but for tests
}

var _ Source = (*Manifests)(nil)

// NewManifests reads Services, EndpointSlices, Endpoints and Nodes from files,
// and from the *.yaml, *.yml and *.json in folders. nodeName is the own Node's
// name; serviceProxyName chooses Services as Config's does. It returns an error only if a path does not exist: what is wrong inside
// is told in the log, and the rest is served.
func NewManifests(paths []string, nodeName, serviceProxyName string, log logrus.FieldLogger) (*Manifests, error) {
	ours := servicesOf(serviceProxyName)
	if len(paths) == 0 {
		return nil, errors.New("--manifests: give a file or a folder")
	}
	for _, path := range paths {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("--manifests=%s: there is no such file or folder", path)
		}
	}
	m := &Manifests{
		loader: newLoader(paths, nodeName, ours, problemLog{log: log}), paths: paths,
		log: log, faults: newQuiet(time.Hour), events: newQuiet(10 * time.Minute), changed: newSignal(), watch: newWatcher,
	}
	m.load(func(time.Duration) bool { return false }) // Run reads again at once
	if len(m.state.Load().Services) == 0 {
		log.Warnf("no Service to serve in %s", enumerate(paths))
	}
	return m, nil
}

// Run implements Source. It returns nil once ctx is done.
func (m *Manifests) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		// The watch comes first, so that nothing changes unseen in between.
		w, err := m.watch(m.paths)
		m.load(func(d time.Duration) bool { return sleep(ctx, d) })
		if err != nil {
			m.blind(ctx, err)
			continue
		}
		m.wait(ctx, w)
		if err := w.Close(); err != nil {
			m.log.WithError(err).Debug("closing the watch on the manifests")
		}
	}
	return nil
}

// load publishes the present state of the files. For pause see loader.
func (m *Manifests) load(pause func(time.Duration) bool) {
	objects, before := m.loader.load(pause), m.state.Load()
	if before != nil && objects.same(*before) {
		return
	}
	m.state.Store(&objects)
	m.changed.send()
	m.log.Infof("the manifests have %d Services to serve, and %d EndpointSlices", len(objects.Services), len(objects.Slices))
}

// wait returns when it is time to load again, or ctx is done.
func (m *Manifests) wait(ctx context.Context, w *watcher) {
	reread := time.NewTimer(rereadEvery)
	defer reread.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reread.C:
			return
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) && m.faults.passes(err.Error()) {
				m.log.WithError(err).Warn("watching the manifests; they are read again")
			}
			w.settle(ctx.Done())
			return
		case e := <-w.Events:
			if w.matters(e) {
				w.settle(ctx.Done())
				return
			}
		}
	}
}

// blind stands in for wait when nothing can be watched.
func (m *Manifests) blind(ctx context.Context, why error) {
	if m.faults.passes("watch") {
		m.log.Warnf("cannot watch the manifests (%v; see fs.inotify.max_user_instances): reading them every %v instead", why, rereadBlind)
	}
	sleep(ctx, rereadBlind)
}

// sleep returns false if ctx is done before the time is over.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Changed implements Source. The first value waits from the start.
func (m *Manifests) Changed() <-chan struct{} { return m.changed }

// Objects implements Source. The state is complete from the start.
func (m *Manifests) Objects() (Objects, bool) { return *m.state.Load(), true }

// Event implements Source. There is nobody to tell but the log, at level
// debug.
func (m *Manifests) Event(about Ref, reason, message string) {
	if m.events.passes(about.String() + reason + message) {
		m.log.WithFields(logrus.Fields{"about": about.String(), "reason": reason}).Debug(message)
	}
}
