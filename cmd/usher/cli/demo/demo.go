package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// Options are what the command line says.
type Options struct {
	Out io.Writer      // for people
	Log *logrus.Logger // for connection records
	// Version is shown on the page.
	Version string
	// Once does the round itself instead of waiting for somebody to do it.
	Once bool
}

// Run serves the demo until ctx is done; with Once, until the round is over. It
// fails if something did not happen as it should.
func Run(ctx context.Context, o Options) error {
	folder, err := writeManifests()
	if err != nil {
		return fmt.Errorf("write the demo's manifests: %w", err)
	}
	defer os.RemoveAll(folder)

	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	var at look
	defer at.remove()
	defer beside.Wait()
	defer stop()
	if err := startBackends(ctx, &beside); err != nil {
		return err
	}
	if !o.Once { // nobody looks while the round runs
		if err := at.open(ctx, &beside); err != nil {
			return err
		}
	}
	round := newRound(o.Out, folder)
	p, err := start(ctx, o, folder, at.socket, round.seen)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-p.Ready():
	case err := <-ended:
		return err
	}
	if !o.Once {
		fmt.Fprintf(o.Out, invitation, at.page.URL(), folder, at.socket)
		return <-ended
	}
	err = round.run(ctx)
	stop()
	return errors.Join(err, <-ended)
}

const invitation = `
usher demo serves five Services on addresses of this machine. Look at them here:

  %s

(the address works once, in one browser), and try, in another terminal:

  curl 127.96.0.10:8080        web    three endpoints take turns
  curl 127.96.0.11:8080        flaky  one endpoint is dead: see its retries below
  nc -N 127.96.0.12 7007       echo   type something, end with Ctrl-D
  nc -u 127.96.0.12 7007              the same by UDP: a client keeps its endpoint
  curl 127.96.0.13:8080        empty  nobody home: refused at once
  curl 127.96.0.14:8080        sticky a client stays with its endpoint, also on
  curl 127.0.0.1:30014                its NodePort and its load balancer's 127.96.1.14:8080

Their manifests lie in %s
Edit one, or remove an endpoint: it takes effect within a second. Other commands of
usher find this one by --admin-socket=%s
Every connection ends in one record below, and so do a UDP client's datagrams
when nothing has passed for two minutes. Ctrl-C stops.

`

const nodeName = "demo"

func start(ctx context.Context, o Options, folder, socket string, seen func(*observe.Record)) (*proxier.Proxier, error) {
	src, err := source.NewManifests([]string{folder}, nodeName, "", o.Log)
	if err != nil {
		return nil, err
	}
	return proxier.New(ctx, proxier.Config{
		Source: src, NodeName: nodeName, Log: o.Log, Registry: prometheus.NewRegistry(), OnRecord: seen,
		Capture: "bind", AllowLoopbackEndpoints: true,
		NodePortAddresses: proxier.NodePortAddresses{Localhost: true}, // and on no other address of a laptop
		Service:           annotation.Defaults(),
		MinSyncPeriod:     20 * time.Millisecond, SyncPeriod: 30 * time.Second, DrainTimeout: time.Second,
		HealthzAddress: "127.0.0.1:0", MetricsAddress: "127.0.0.1:0", AdminSocket: socket, Version: o.Version,
	})
}

// writeManifests unpacks the manifests into a new folder, for people to edit.
func writeManifests() (folder string, err error) {
	folder, err = os.MkdirTemp("", "usher-demo-")
	if err != nil {
		return "", err
	}
	files, err := fs.Glob(manifests, "manifests/*.yaml")
	for _, name := range files {
		var text []byte
		if text, err = manifests.ReadFile(name); err == nil {
			err = os.WriteFile(filepath.Join(folder, strings.TrimPrefix(name, "manifests/")), text, 0o644)
		}
		if err != nil {
			os.RemoveAll(folder)
			return "", err
		}
	}
	return folder, err
}
