package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/usher-proxy/usher/proxier/admin/ui"
)

// look is what people may look at: the admin socket, and the page about it.
type look struct {
	folder string // of the socket, for nobody but us; empty: none
	socket string
	page   *ui.Page
}

// open makes the folder, and serves the page until ctx is done; done.Wait then waits for
// that. The socket is the Proxier's to make.
func (l *look) open(ctx context.Context, done *sync.WaitGroup) (err error) {
	if l.folder, err = os.MkdirTemp("", "usher-demo-admin-"); err != nil {
		return fmt.Errorf("make a folder for the demo's admin socket: %w", err)
	}
	l.socket = filepath.Join(l.folder, "usher.sock")
	if l.page, err = ui.Open(l.socket, "127.0.0.1:0"); err != nil {
		return fmt.Errorf("serve the demo's page: %w", err)
	}
	done.Go(func() { l.page.Serve(ctx) })
	return nil
}

func (l *look) remove() { os.RemoveAll(l.folder) }
