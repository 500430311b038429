package cli

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) } // which also looks for leaks

const soon = 10 * time.Second

// watched is a file that was read and is being watched.
type watched struct {
	*fileOptions
	t     *testing.T
	asked chan struct{} // receives when usher is to read it again
	stop  func()
}

func watchedFile(t *testing.T, path string) *watched {
	t.Helper()
	content, err := readConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return watch(t, &fileOptions{path: path, content: content})
}

func watch(t *testing.T, c *fileOptions) *watched {
	log, _ := logtest.NewNullLogger()
	w := &watched{fileOptions: c, t: t, asked: make(chan struct{}, 10)}
	w.stop = sync.OnceFunc(w.onChange(t.Context(), log, func() { w.asked <- struct{}{} }))
	t.Cleanup(w.stop)
	return w
}

// isReadAgain waits for a change to be noticed.
func (w *watched) isReadAgain() {
	w.t.Helper()
	select {
	case <-w.asked:
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
	w.isReadAgain()
}

// Editors write another file and rename it.
func TestAFileThatIsReplaced(t *testing.T) {
	file := inFile(t, "a")
	w := watchedFile(t, file)
	write(t, file+".new", "b")
	rename(t, file+".new", file)
	w.isReadAgain()
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
	w.isReadAgain()
}

func TestAFileBehindALink(t *testing.T) {
	file := inFile(t, "a")
	link := filepath.Join(t.TempDir(), "link")
	symlink(t, file, link)
	w := watchedFile(t, link)
	write(t, file, "b")
	w.isReadAgain()
}

func TestAFileThatChangedBeforeTheWatchBegan(t *testing.T) {
	watch(t, &fileOptions{path: inFile(t, "a"), content: []byte("what was read")}).isReadAgain()
}

// What was bad is mended: each change counts, and none twice.
func TestOneChangeAfterTheOther(t *testing.T) {
	file := inFile(t, "a")
	w := watchedFile(t, file)
	for _, content := range []string{"b", "c", "a"} {
		write(t, file, content)
		w.isReadAgain()
	}
	w.stop()
	if n := len(w.asked); n > 0 {
		t.Errorf("it was to be read %d times more", n)
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
	file := inFile(t, "a")
	w := watchedFile(t, file)
	w.stop()
	write(t, file, "b")
	if len(w.asked) > 0 {
		t.Error("it was to be read again")
	}
}

func TestAFileThatCannotBeWatched(t *testing.T) {
	c := &fileOptions{path: filepath.Join(t.TempDir(), "gone")}
	log, hook := logtest.NewNullLogger()
	c.onChange(t.Context(), log, func() { t.Error("it is to be read again") })()
	if e := hook.LastEntry(); e == nil || !strings.Contains(e.Message, "a change of it goes unnoticed") {
		t.Error("nobody was told")
	}
}
