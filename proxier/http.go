package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHTTP serves health and metrics until ctx is done.
func (p *Proxier) serveHTTP(ctx context.Context, workers *sync.WaitGroup) {
	if addr := p.cfg.HealthzAddress; addr != "" {
		workers.Go(func() { p.serve(ctx, "health", addr, p.health.Handler()) })
	}
	if addr := p.cfg.MetricsAddress; addr != "" {
		workers.Go(func() { p.serve(ctx, "metrics", addr, p.metricsHandler()) })
	}
}

func (p *Proxier) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(p.cfg.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "userspace") })
	return mux
}

// bindRetry is how long to wait for an address that somebody else has, as
// kube-proxy does. Services are served meanwhile.
const bindRetry = 5 * time.Second

func (p *Proxier) serve(ctx context.Context, what, addr string, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	log := p.cfg.Log.WithField("address", addr)
	for ctx.Err() == nil {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			log.WithField("address", ln.Addr().String()).Infof("serving %s", what)
			err = server.Serve(ln)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return
		}
		log.WithError(err).Errorf("cannot serve %s, trying again in %s", what, bindRetry)
		select {
		case <-ctx.Done():
		case <-time.After(bindRetry):
		}
	}
}
