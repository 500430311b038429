package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) } // which also looks for leaks

const soon = 10 * time.Second

// watched is a file that was read and is being watched while f runs.
type watched struct {
	*fileOptions
	t       *testing.T
	running chan struct{} // closed once f runs
	end     chan error
	cancel  context.CancelFunc
}

func watchedFile(t *testing.T, path string) *watched {
	t.Helper()
	content, err := readConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &watched{&fileOptions{path: path, content: content}, t, make(chan struct{}), make(chan error, 1), cancel}
	return w.start(ctx)
}

func (w *watched) start(ctx context.Context) *watched {
	log, _ := logtest.NewNullLogger()
	go func() {
		w.end <- w.untilChanged(ctx, log, func(ctx context.Context) error {
			close(w.running)
			<-ctx.Done()
			return nil
		})
	}()
	<-w.running
	return w
}

// endsBecauseOfTheFile waits for the error.
func (w *watched) endsBecauseOfTheFile() {
	w.t.Helper()
	select {
	case err := <-w.end:
		if err == nil || !strings.Contains(err.Error(), "the configuration file "+w.path+" has changed") {
			w.t.Errorf("ended with %v", err)
		}
	case <-time.After(soon):
		w.t.Error("the change went unnoticed")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatIsWritten(t *testing.T) {
	file := inFile(t, "a")
	w := watchedFile(t, file)
	write(t, file, "b")
	w.endsBecauseOfTheFile()
}

// Editors write another file and rename it.
func TestAFileThatIsReplaced(t *testing.T) {
	file := inFile(t, "a")
	w := watchedFile(t, file)
	write(t, file+".new", "b")
	rename(t, file+".new", file)
	w.endsBecauseOfTheFile()
}

// The kubelet changes the link ..data, next to the file's own link.
func TestAFileOfAConfigMap(t *testing.T) {
	folder := t.TempDir()
	for version, content := range map[string]string{"..1": "a", "..2": "b"} {
		if err := os.Mkdir(filepath.Join(folder, version), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, version, "config.conf"), content)
	}
	symlink(t, "..1", filepath.Join(folder, "..data"))
	symlink(t, "..data/config.conf", filepath.Join(folder, "config.conf"))
	w := watchedFile(t, filepath.Join(folder, "config.conf"))
	symlink(t, "..2", filepath.Join(folder, "..data_tmp"))
	rename(t, filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data"))
	w.endsBecauseOfTheFile()
}

func TestAFileBehindALink(t *testing.T) {
	file := inFile(t, "a")
	link := filepath.Join(t.TempDir(), "link")
	symlink(t, file, link)
	w := watchedFile(t, link)
	write(t, file, "b")
	w.endsBecauseOfTheFile()
}

func TestAFileThatChangedBeforeTheWatchBegan(t *testing.T) {
	c := &fileOptions{path: inFile(t, "a"), content: []byte("what was read")}
	log, _ := logtest.NewNullLogger()
	err := c.untilChanged(t.Context(), log, func(context.Context) error {
		t.Error("it runs with a configuration that is no more")
		return nil
	})
	if err == nil {
		t.Error("the change went unnoticed")
	}
}

func TestWhatIsNoChange(t *testing.T) {
	file := inFile(t, "a")
	c := &fileOptions{path: file, content: []byte("a")}
	now := time.Now()
	if err := os.Chtimes(file, now, now); err != nil {
		t.Fatal(err)
	}
	if c.changed() {
		t.Error("a file that was touched has changed")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if c.changed() {
		t.Error("a file that is gone has changed")
	}
	write(t, file, "b")
	if !c.changed() {
		t.Error("a file with another content has not changed")
	}
}

func TestStoppingEndsTheWatch(t *testing.T) {
	w := watchedFile(t, inFile(t, "a"))
	w.cancel()
	if err := <-w.end; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// The end of what runs is the end, and its error counts.
func TestAnErrorOfItsOwn(t *testing.T) {
	own := errors.New("cannot listen")
	c := &fileOptions{path: inFile(t, "a"), content: []byte("a")}
	log, _ := logtest.NewNullLogger()
	if err := c.untilChanged(t.Context(), log, func(context.Context) error { return own }); err != own {
		t.Errorf("ended with %v, want %v", err, own)
	}
}

func TestAFileThatCannotBeWatched(t *testing.T) {
	c := &fileOptions{path: filepath.Join(t.TempDir(), "gone")}
	log, hook := logtest.NewNullLogger()
	err := c.untilChanged(t.Context(), log, func(context.Context) error { return nil })
	if err != nil {
		t.Errorf("ended with %v", err)
	}
	if e := hook.LastEntry(); e == nil || !strings.Contains(e.Message, "a change of it goes unnoticed") {
		t.Error("nobody was told")
	}
}
