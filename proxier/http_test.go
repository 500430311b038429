package proxier

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/health"
	"github.com/usher-proxy/usher/proxier/source"
)

// webPatience is how long anything here may take.
const webPatience = 20 * time.Second

// web is a Proxier that serves nothing but health and metrics.
type web struct {
	*Proxier
	t      *testing.T
	events eventSource
	lines  chan *logrus.Entry
	failed chan error
	stop   func() // and wait
}

// eventSource is a source that has nothing but room for events.
type eventSource chan string

func (eventSource) Run(context.Context) error       { return nil }
func (eventSource) Changed() <-chan struct{}        { return nil }
func (eventSource) Objects() (source.Objects, bool) { return source.Objects{}, false }
func (e eventSource) Event(about source.Ref, reason, message string) {
	e <- about.String() + " " + reason + ": " + message
}

// Levels and Fire make it a hook of the log.
func (w *web) Levels() []logrus.Level         { return logrus.AllLevels }
func (w *web) Fire(entry *logrus.Entry) error { w.lines <- entry; return nil }

func newWeb(t *testing.T, change func(*Config)) *web {
	w := &web{t: t, events: make(eventSource, 1000), lines: make(chan *logrus.Entry, 1000), failed: make(chan error, 1)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.DebugLevel)
	log.AddHook(w)
	w.Proxier = &Proxier{
		cfg:    Config{Source: w.events, NodeName: "here", Log: log, Registry: prometheus.NewRegistry()},
		health: health.New(time.Minute, corev1.IPv4Protocol),
	}
	change(&w.cfg)
	w.kube = newKubeMetrics(w.cfg.Registry, false, IPv4)
	return w
}

// start serves, until the test ends at the latest.
func (w *web) start(serve func(ctx context.Context, workers *sync.WaitGroup, fail func(error))) {
	ctx, cancel := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	serve(ctx, &workers, func(err error) { w.failed <- err })
	w.stop = func() { cancel(); workers.Wait() }
	w.t.Cleanup(w.stop)
}

// line waits for a line of the log that begins so.
func (w *web) line(begin string) *logrus.Entry {
	w.t.Helper()
	for {
		select {
		case entry := <-w.lines:
			if strings.HasPrefix(entry.Message, begin) {
				return entry
			}
		case <-time.After(webPatience):
			w.t.Fatalf("the log has no %q", begin)
		}
	}
}

// url is where something is served.
func (w *web) url(what string) string {
	w.t.Helper()
	return "http://" + w.line("serving " + what).Data["address"].(string)
}

// fetch asks on a connection of its own.
func fetch(url string) (*http.Response, string, error) {
	client := &http.Client{Timeout: webPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestPathsOfTheMetricsPort(t *testing.T) {
	const text, jsonType = "text/plain; charset=utf-8", "application/json"
	w := newWeb(t, func(c *Config) {
		c.MetricsAddress = "127.0.0.1:0"
		c.Configz = map[string]any{"kubeproxy.config.k8s.io": map[string]any{"mode": "userspace"}}
	})
	w.start(w.serveHTTP)
	base := w.url("metrics")
	for path, want := range map[string]struct {
		contentType, body string // all of it, or what begins it
		all               bool
	}{
		"/healthz":      {text, "ok", true},
		"/proxyMode":    {text, "userspace", true},
		"/configz":      {jsonType, `{"kubeproxy.config.k8s.io":{"mode":"userspace"}}`, true},
		"/metrics":      {"text/plain; version=0.0.4; charset=utf-8", "# HELP kubeproxy_", false},
		"/metrics/slis": {"text/plain; version=0.0.4; charset=utf-8", "", false},
	} {
		resp, body, err := fetch(base + path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		contentType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), "; escaping")
		if resp.StatusCode != 200 || contentType != want.contentType || !strings.HasPrefix(body, want.body) || want.all && body != want.body {
			t.Errorf("%s answers %d %q %q", path, resp.StatusCode, contentType, body)
		}
	}
	for _, path := range []string{"/", "/metrics/", "/readyz", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
		if resp, body, err := fetch(base + path); err != nil || resp.StatusCode != 404 {
			t.Errorf("%s answers %q, %v, want 404", path, body, err)
		}
	}
	w.stop()
	if _, _, err := fetch(base + "/healthz"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("when stopped: %v", err)
	}
}

func TestProfilesWhenAskedFor(t *testing.T) {
	w := newWeb(t, func(c *Config) { c.MetricsAddress = "127.0.0.1:0"; c.Profiling = true })
	w.start(w.serveHTTP)
	base := w.url("metrics")
	for path, code := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/trace?seconds=0.01": 200,
		"/debug/pprof/cmdline": 404, // it may hold what is not for everybody
	} {
		if resp, body, err := fetch(base + path); err != nil || resp.StatusCode != code {
			t.Errorf("%s answers %.80q, %v, want %d", path, body, err, code)
		}
	}
	if allowed := metricsServer(nil).WriteTimeout; allowed < 31*time.Second {
		t.Errorf("an answer may take %s, a profile takes 30s", allowed)
	}
}

func TestConfigzWithoutConfiguration(t *testing.T) {
	w := newWeb(t, func(*Config) {})
	ask := func() *httptest.ResponseRecorder {
		resp := httptest.NewRecorder()
		w.metricsHandler().ServeHTTP(resp, httptest.NewRequest("GET", "/configz", nil))
		return resp
	}
	if resp := ask(); resp.Code != 200 || resp.Body.String() != "{}" {
		t.Errorf("answers %d %s", resp.Code, resp.Body)
	}
	w.cfg.Configz = map[string]any{"bad": make(chan int)}
	if resp := ask(); resp.Code != 500 || !strings.Contains(resp.Body.String(), "cannot show the configuration") {
		t.Errorf("answers %d %s", resp.Code, resp.Body)
	}
}

func TestHealthIsServedAndCounted(t *testing.T) {
	w := newWeb(t, func(c *Config) { c.HealthzAddress = "127.0.0.1:0" })
	w.start(w.serveHTTP)
	base := w.url("health")
	w.health.Node(nil, true)
	for _, path := range []string{"/healthz", "/livez", "/healthz", "/readyz"} {
		resp, body, err := fetch(base + path)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Healthy bool }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || !answer.Healthy {
			t.Errorf("%s answers %s %s, %v", path, resp.Status, body, err)
		}
	}
	series(t, w.cfg.Registry, map[string]float64{`proxy_healthz_total{code="503"}`: 2, `proxy_livez_total{code="200"}`: 1})
	got := scrape(t, w.kube.slis.registry)
	for name, value := range map[string]float64{
		`kubernetes_healthcheck{name="proxy",type="healthz"}`:                       0,
		`kubernetes_healthcheck{name="proxy",type="livez"}`:                         1,
		`kubernetes_healthchecks_total{name="proxy",status="error",type="healthz"}`: 2,
		`kubernetes_healthchecks_total{name="proxy",status="success",type="livez"}`: 1,
		`kubernetes_healthchecks_total{name="proxy",status="error",type="readyz"}`:  1,
	} {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v, want %v", name, v, value)
		}
	}
}

func TestNothingIsServedWithoutAnAddress(t *testing.T) {
	w := newWeb(t, func(*Config) {})
	var workers sync.WaitGroup
	w.serveHTTP(context.Background(), &workers, func(err error) { t.Error(err) })
	workers.Wait() // for nobody
	if len(w.lines) > 0 {
		t.Errorf("the log says %q", (<-w.lines).Message)
	}
}

// taken is an address that somebody else listens on, until free is called.
func taken(t *testing.T) (addr string, free func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String(), func() { ln.Close() }
}

func TestAnAddressInUseIsTriedAgainAndToldOnce(t *testing.T) {
	addr, free := taken(t)
	w := newWeb(t, func(*Config) {})
	w.start(func(ctx context.Context, workers *sync.WaitGroup, fail func(error)) {
		s := httpServer{what: "metrics", flag: "--metrics-bind-address", addr: addr, failure: "FailedToStartMetricServer",
			server: metricsServer(w.metricsHandler()), listen: listenTCP}
		workers.Go(func() { w.serve(ctx, s, time.Millisecond, fail) })
	})
	want := "cannot serve metrics: listen tcp " + addr + ": bind: address already in use; make the address free, or choose another with --metrics-bind-address"
	if entry := w.line(want); entry.Level != logrus.ErrorLevel {
		t.Errorf("told at level %s", entry.Level)
	}
	for range 3 {
		if entry := w.line("cannot serve"); entry.Level != logrus.DebugLevel {
			t.Errorf("told again at level %s", entry.Level)
		}
	}
	free()
	if _, body, err := fetch(w.url("metrics") + "/proxyMode"); err != nil || body != "userspace" {
		t.Errorf("once it is free: %q, %v", body, err)
	}
	if event := <-w.events; event != "Node here FailedToStartMetricServer: "+want {
		t.Errorf("event %q", event)
	}
	if len(w.events) > 0 || len(w.failed) > 0 {
		t.Errorf("%d more events, %d failures", len(w.events), len(w.failed))
	}
}

func TestAnAddressInUseIsFatalWithBindHardFail(t *testing.T) {
	for reason, set := range map[string]func(*Config, string){
		"FailedToStartProxierHealthcheck": func(c *Config, addr string) { c.HealthzAddress = addr },
		"FailedToStartMetricServer":       func(c *Config, addr string) { c.MetricsAddress = addr },
	} {
		addr, _ := taken(t)
		w := newWeb(t, func(c *Config) { set(c, addr); c.BindHardFail = true })
		var workers sync.WaitGroup
		w.serveHTTP(context.Background(), &workers, func(err error) { w.failed <- err })
		workers.Wait() // nothing is tried again
		if err := <-w.failed; !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: failed with %v", reason, err)
		}
		if event := <-w.events; !strings.HasPrefix(event, "Node here "+reason+": cannot serve") {
			t.Errorf("event %q, want %s", event, reason)
		}
	}
}

func TestStoppingDoesNotWaitForTheNextTry(t *testing.T) {
	addr, _ := taken(t)
	w := newWeb(t, func(c *Config) { c.HealthzAddress = addr })
	w.start(w.serveHTTP)
	w.line("cannot serve")
	begin := time.Now()
	w.stop()
	if took := time.Since(begin); took > bindRetry/2 {
		t.Errorf("took %s", took)
	}
}

// What is asked may look at anything of a Proxier, which therefore outlasts it: also a
// request whose body nobody reads, so that net/http does not notice that it is over.
func TestServingEndsWithItsRequests(t *testing.T) {
	w := newWeb(t, func(*Config) {})
	begun := make(chan struct{})
	var ended atomic.Bool
	slow := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		time.Sleep(100 * time.Millisecond) // it takes its time
		ended.Store(true)
	})}
	w.start(func(ctx context.Context, workers *sync.WaitGroup, fail func(error)) {
		s := httpServer{what: "metrics", addr: "127.0.0.1:0", server: slow, listen: listenTCP}
		workers.Go(func() { w.serve(ctx, s, time.Millisecond, fail) })
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url("metrics"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n")
	<-begun
	w.stop()
	if !ended.Load() {
		t.Error("somebody is still busy with a request")
	}
}
