package ui

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed assets
var assets embed.FS

// files serves the page itself, and no lists of what there is.
func files() http.Handler {
	root, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the name is no path, which it is
	}
	serve := http.FileServerFS(root)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[1:]
		if name == "" {
			name = "index.html"
		}
		if info, err := fs.Stat(root, name); err != nil || !info.Mode().IsRegular() {
			http.NotFound(w, r)
			return
		}
		serve.ServeHTTP(w, r)
	})
}
