package cli

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// onChange calls f whenever the configuration file has become another one than was read, or
// than it was the last time, until the function that it returns is called.
func (c *fileOptions) onChange(ctx context.Context, log logrus.FieldLogger, f func()) (stop func()) {
	if c.path == "" {
		return func() {}
	}
	watcher, err := c.watch()
	if err != nil {
		log.WithError(err).Warnf("cannot watch --config=%s: a change of it goes unnoticed", c.path)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer watcher.Close()
		for c.awaitChange(ctx, watcher) {
			log.Infof("handover: the configuration file %s has changed", c.path)
			f()
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// settles is how long a file stays the same before it counts as written.
const settles = 500 * time.Millisecond

// awaitChange returns true once the file has changed, and false when ctx is done.
func (c *fileOptions) awaitChange(ctx context.Context, watcher *fsnotify.Watcher) bool {
	look := time.After(0) // it may have changed before
	for {
		select {
		case <-ctx.Done():
			return false
		case <-watcher.Events:
			look = time.After(settles)
		case <-watcher.Errors: // events were lost
			look = time.After(settles)
		case <-look:
			if c.changed() {
				return true
			}
		}
	}
}

// changed says whether the file has another content than was read, or than it had when this
// was asked last. A file that is gone has not: it may be about to come back.
func (c *fileOptions) changed() bool {
	now, err := readConfig(c.path)
	if err != nil || bytes.Equal(now, c.content) {
		return false
	}
	c.content = now
	return true
}

// watch watches the folder that the file is in, because editors and the kubelet
// (..data) put another file or link in its place, and the one it leads to.
func (c *fileOptions) watch() (*fsnotify.Watcher, error) {
	target, err := filepath.EvalSymlinks(c.path)
	if err != nil {
		return nil, err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	for _, file := range []string{c.path, target} {
		if err := watcher.Add(filepath.Dir(file)); err != nil {
			return nil, errors.Join(err, watcher.Close())
		}
	}
	return watcher, nil
}
