package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// untilChanged runs f until the configuration file is another than the one that
// was read; that is an error, as in kube-proxy, whose DaemonSet or unit then
// starts it again. f is stopped in good order, by its context.
func (c *fileOptions) untilChanged(ctx context.Context, log logrus.FieldLogger, f func(context.Context) error) error {
	if c.path == "" {
		return f(ctx)
	}
	watcher, err := c.watch()
	if err != nil {
		log.WithError(err).Warnf("cannot watch --config=%s: a change of it goes unnoticed", c.path)
		return f(ctx)
	}
	defer watcher.Close()
	change := fmt.Errorf("the configuration file %s has changed", c.path)
	if c.changed() { // before the watch began
		return change
	}

	ctx, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if c.awaitChange(ctx, watcher) {
			log.Warnf("%v: ending", change)
			stop(change)
		}
	})
	err = f(ctx)
	stop(nil)
	watching.Wait()
	if context.Cause(ctx) == change && (err == nil || errors.Is(err, context.Canceled)) {
		return change
	}
	return err
}

// awaitChange returns true once the file has changed, and false when ctx is done.
func (c *fileOptions) awaitChange(ctx context.Context, watcher *fsnotify.Watcher) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-watcher.Events:
		case <-watcher.Errors: // events were lost: look
		}
		if c.changed() {
			return true
		}
	}
}

// changed says whether the file has another content than was read. A file that is
// gone has not: it may be about to come back.
func (c *fileOptions) changed() bool {
	now, err := readConfig(c.path)
	return err == nil && !bytes.Equal(now, c.content)
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
