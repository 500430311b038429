package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/admin/ui"
)

func newUI() *cobra.Command {
	u := &uiOptions{}
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Show the usher that runs on this node as a page in the browser",
		Long: `ui serves a page about the usher on this node, on a loopback address of this machine,
until Ctrl-C. It prints an address that works once: the browser that opens it is let in
by a cookie from then on, and nobody else is. The page only reads.

From another machine, forward the port: ssh -L 8000:127.0.0.1:8000 NODE with
usher ui --listen 127.0.0.1:8000 there.

The exit code is 0, 2 if no usher can be asked, and 3 if the command line cannot be
meant.`,
		Example: `  usher ui
  usher ui --open --timeout 1h`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return u.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&u.listen, "listen", "127.0.0.1:0", "loopback `address` and port to serve the page on; port 0: any that is free")
	f.BoolVar(&u.open, "open", false, "also open it in the browser (xdg-open)")
	f.DurationVar(&u.timeout, "timeout", 8*time.Hour, "end after so long; 0: never")
	u.admin.define(f)
	return cmd
}

// uiOptions are one call of usher ui.
type uiOptions struct {
	listen  string
	open    bool
	timeout time.Duration
	admin   adminOptions
}

func (u *uiOptions) run(cmd *cobra.Command) error {
	if u.timeout < 0 {
		return usageError{fmt.Errorf("--timeout=%s: want 0 or more", u.timeout)}
	}
	if err := u.admin.check(); err != nil {
		return err
	}
	// Later the page itself says that usher is away, and waits for it.
	var answer admin.Status
	if err := admin.Get(cmd.Context(), u.admin.socket, "/v1/status", nil, &answer); errors.Is(err, admin.ErrUnreachable) {
		return err
	}
	page, err := ui.Open(u.admin.socket, u.listen)
	if err != nil {
		err = fmt.Errorf("--listen=%s: %w", u.listen, err)
		if errors.Is(err, ui.ErrNotLocal) {
			return usageError{err}
		}
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), page.URL())
	fmt.Fprintln(cmd.ErrOrStderr(), "The address works once, in one browser. Ctrl-C ends the page.")
	if u.open {
		browse(cmd.Context(), cmd.ErrOrStderr(), page.URL())
	}
	return u.serve(cmd, page)
}

// serve serves until somebody stops it, or its time is over.
func (u *uiOptions) serve(cmd *cobra.Command, page *ui.Page) error {
	ctx, cancel := cmd.Context(), func() {}
	if u.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, u.timeout)
	}
	defer cancel()
	err := page.Serve(ctx)
	if err == nil && cmd.Context().Err() == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "The page has ended after %s, as --timeout says.\n", u.timeout)
	}
	return err
}

// browse opens an address in the browser of the desktop, or says that it cannot. Others
// on this machine may see it among the arguments of a process: whoever is first is let in.
func browse(ctx context.Context, complaints io.Writer, address string) {
	opener := exec.CommandContext(ctx, "xdg-open", address)
	if err := opener.Start(); err != nil {
		fmt.Fprintf(complaints, "Open it yourself: %v\n", err)
		return
	}
	go opener.Wait() // it ends with ctx at the latest
}
