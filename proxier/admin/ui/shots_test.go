package ui

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/browser"
)

// Pictures of everything, for people to look at: USHER_UI_SHOTS=directory.
func TestPictures(t *testing.T) {
	dir := os.Getenv("USHER_UI_SHOTS")
	if dir == "" {
		t.Skip("USHER_UI_SHOTS names no directory for pictures")
	}
	_, b := opened(t, 10000)
	for _, width := range []int64{1280, 380} {
		for _, theme := range []string{"light", "dark"} {
			b.Size(width, 860)
			b.Dark(theme == "dark")
			for _, v := range []struct{ name, hash, sees string }{
				{"overview", "/overview", "client_reset"},
				{"services", "/services", "team-"},
				{"service", "/service/shop/web", "Nothing is sent"},
				{"flows", "/flows", "no_endpoints"},
				{"map", "/map", "The same as a table"},
				{"rules", "/rules", "missing in table nat"},
				{"connections", "/connections", "half-closed"},
			} {
				b.GoTo(v.hash)
				b.Sees(v.sees)
				time.Sleep(time.Second) // for charts to have something to draw
				b.Shot(filepath.Join(dir, fmt.Sprintf("%s-%d-%s", v.name, width, theme)+".png"))
				if v.name == "flows" {
					browser.Eval[bool](b, "([...document.querySelectorAll(`tr.trouble`)].find(tr => tr.textContent.includes(`backend_reset`)).querySelector(`button.open`).click(), true)")
					b.Sees("How it ended")
					b.Shot(filepath.Join(dir, fmt.Sprintf("record-%d-%s", width, theme)+".png"))
				}
			}
		}
	}
	b.Clean()
}
