package source

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds on what is read, far above any real use: a wrong path must not eat
// the node's memory.
const (
	maxFileBytes = 32 << 20
	maxFiles     = 4096 // in one folder
)

// manifestFiles returns the files that a path stands for, sorted by name: the
// path itself, or the *.yaml, *.yml and *.json of a folder, but not of folders
// in it. Names that begin with a dot are an editor's, or hold the versions of a
// mounted ConfigMap.
func manifestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		if !isManifestName(entry.Name()) || entry.IsDir() {
			continue
		}
		if len(files) == maxFiles {
			return files, fmt.Errorf("more than %d files: those from %s on are not read", maxFiles, entry.Name())
		}
		files = append(files, filepath.Join(path, entry.Name()))
	}
	return files, nil
}

func isManifestName(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// readFile returns the content of a regular file, and when that was written. It
// does not wait for the writer of a pipe.
func readFile(name string) (content []byte, written time.Time, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, time.Time{}, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("is no regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, info.ModTime(), withoutPath(err)
	}
	defer f.Close()
	content, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, info.ModTime(), withoutPath(err)
	}
	if len(content) > maxFileBytes {
		return nil, info.ModTime(), fmt.Errorf("is larger than %d MiB", maxFileBytes>>20)
	}
	return content, info.ModTime(), nil
}

// withoutPath removes from an error the path that a problem names anyway.
func withoutPath(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return fmt.Errorf("cannot be read: %w", pathError.Err)
	}
	return err
}
