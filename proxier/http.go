package proxier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/health"
	"github.com/usher-proxy/usher/proxier/source"
)

// httpServer is what is served beside Services: where, by which flag, and how
// Events call it when that fails.
type httpServer struct {
	what, flag, addr string
	failure          string
	server           *http.Server
	listen           func(ctx context.Context, addr string) (net.Listener, error)
}

func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// serveHTTP serves health, metrics and the admin socket until ctx is done. With
// BindHardFail, what cannot be listened on is told to fail, which may be called
// more than once.
func (p *Proxier) serveHTTP(ctx context.Context, workers *sync.WaitGroup, fail func(error)) {
	for _, s := range []httpServer{
		{"health", "--healthz-bind-address", p.cfg.HealthzAddress, "FailedToStartProxierHealthcheck",
			health.Server(p.health.Handler(p.kube.answered)), listenTCP},
		{"metrics", "--metrics-bind-address", p.cfg.MetricsAddress, "FailedToStartMetricServer",
			metricsServer(p.metricsHandler()), listenTCP},
		{"the admin socket", "--admin-socket", p.cfg.AdminSocket, "FailedToStartAdminServer",
			admin.API{Views: p.views(), Actions: p.actions(), Feeds: p.feeds(), Exchanges: p.exchanges()}.Server(), admin.Listen},
	} {
		if s.addr != "" {
			workers.Go(func() { p.serve(ctx, s, bindRetry, fail) })
		}
	}
}

// maxScrapes is how many may read metrics at a time.
const maxScrapes = 16

// metricsServer has time for a profile, which takes 30 seconds if not told
// otherwise.
func metricsServer(handler http.Handler) *http.Server {
	server := health.Server(handler)
	server.WriteTimeout = 2 * time.Minute
	return server
}

// metricsHandler serves the paths of kube-proxy's metrics port.
func (p *Proxier) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", metricsOf(p.cfg.Registry))
	mux.Handle("/metrics/slis", metricsOf(p.kube.slis.registry))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		p.kube.slis.observe("ping", "healthz", true)
		writeBody(w, "text/plain; charset=utf-8", []byte("ok"))
	})
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		writeBody(w, "text/plain; charset=utf-8", []byte("userspace"))
	})
	mux.HandleFunc("/configz", p.configz)
	if p.cfg.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func metricsOf(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

func (p *Proxier) configz(w http.ResponseWriter, _ *http.Request) {
	kinds := p.cfg.Configz
	if kinds == nil {
		kinds = map[string]any{}
	}
	body, err := json.Marshal(kinds)
	if err != nil {
		http.Error(w, fmt.Sprintf("cannot show the configuration as JSON: %v", err), http.StatusInternalServerError)
		return
	}
	writeBody(w, "application/json", body)
}

func writeBody(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(body)
}

// bindRetry is how long to wait for an address that somebody else has, as
// kube-proxy does. Services are served meanwhile.
const bindRetry = 5 * time.Second

// requests are those that a server answers. Its own Close hangs up on them, but does not wait
// until nobody is busy with them any more.
type requests struct {
	http.Handler
	mu   sync.RWMutex // read-locked by each
	over bool
}

func (r *requests) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.over {
		r.Handler.ServeHTTP(w, request)
	}
}

// wait waits for all, and lets no more begin.
func (r *requests) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// endWith has the server end with ctx. To wait for that is up to the caller, with the
// function that it returns.
func (s *httpServer) endWith(ctx context.Context) (wait func()) {
	all := &requests{Handler: s.server.Handler}
	lasts, cancel := context.WithCancel(context.Background())
	s.server.Handler, s.server.BaseContext = all, func(net.Listener) context.Context { return lasts }
	end := sync.OnceFunc(func() {
		s.server.Close() // first: what is followed does not end well
		cancel()
	})
	stop := context.AfterFunc(ctx, end)
	return func() { stop(); end(); all.wait() }
}

// serve warns of a failure once, however often it comes. When it returns nothing is served
// any more.
func (p *Proxier) serve(ctx context.Context, s httpServer, retry time.Duration, fail func(error)) {
	defer s.endWith(ctx)()
	log := p.cfg.Log.WithField("address", s.addr)
	told := ""
	for ctx.Err() == nil {
		err := p.listenAndServe(ctx, &s)
		if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("cannot serve %s: %w; make the address free, or choose another with %s", s.what, err, s.flag)
		if told != err.Error() {
			told = err.Error()
			p.cfg.Source.Event(source.Ref{Kind: "Node", Name: p.cfg.NodeName}, s.failure, told)
			log.Error(told)
		} else {
			log.Debug(told)
		}
		if p.cfg.BindHardFail {
			fail(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (p *Proxier) listenAndServe(ctx context.Context, s *httpServer) error {
	listener, err := p.listen(ctx, s)
	if err != nil {
		return err
	}
	p.cfg.Log.WithField("address", listener.Addr().String()).Infof("serving %s", s.what)
	return s.server.Serve(listener)
}
