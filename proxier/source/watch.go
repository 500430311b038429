package source

import (
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// Editors and kubelet change a file in several steps; a load waits until
	// nothing has happened for settleQuiet, but not longer than settleMost.
	settleQuiet = 100 * time.Millisecond
	settleMost  = 700 * time.Millisecond
	// linkDepth is how many symlinks in a row are followed, as by the kernel.
	linkDepth = 40
)

// watcher tells when something about the given paths may have changed. It
// watches folders: a file that is replaced is another file, and a watch on it
// would still see the old one. A watcher knows the folders and links as they
// are when it is made; after a change one makes a new one.
type watcher struct {
	*fsnotify.Watcher
	names   map[string]bool // files, folders and links whose change matters
	folders map[string]bool // in which any manifest matters
}

// newWatcher watches paths. A folder that cannot be watched, because it does
// not exist now, is left out.
func newWatcher(paths []string) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{Watcher: notify, names: make(map[string]bool), folders: make(map[string]bool)}
	for _, path := range paths {
		w.follow(path)
		files, _ := manifestFiles(path)
		for _, file := range files {
			w.follow(file)
		}
	}
	return w, nil
}

// follow watches a path, each symlink on the way to what it stands for, and
// the content of that if it is a folder.
func (w *watcher) follow(path string) {
	for range linkDepth {
		folder, err := canonical(filepath.Dir(path))
		if err != nil {
			return
		}
		path = filepath.Join(folder, filepath.Base(path))
		w.names[path] = true
		w.names[filepath.Join(folder, "..data")] = true // a mounted ConfigMap changes by this link alone
		_ = w.Add(folder)
		target, err := os.Readlink(path)
		if err != nil {
			break // no link
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(folder, target)
		}
		path = target
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() && w.Add(path) == nil {
		w.folders[path] = true
	}
}

// canonical returns the one name of a folder without symlinks, by which the
// events in it are known.
func canonical(folder string) (string, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
}

func (w *watcher) matters(e fsnotify.Event) bool {
	return w.names[e.Name] || w.folders[e.Name] || w.folders[filepath.Dir(e.Name)] && isManifestName(filepath.Base(e.Name))
}

// settle returns once the changes have come to rest, or done is closed.
func (w *watcher) settle(done <-chan struct{}) {
	latest := time.NewTimer(settleMost)
	defer latest.Stop()
	quiet := time.NewTimer(settleQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-done:
			return
		case <-latest.C:
			return
		case <-quiet.C:
			return
		case e := <-w.Events:
			if w.matters(e) {
				quiet.Reset(settleQuiet)
			}
		}
	}
}
