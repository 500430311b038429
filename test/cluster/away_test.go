package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	neturl "net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// gate stands between usher and its API server: it can shut out usher alone, or hold up
// what it asks for. It speaks HTTP to usher, so that it knows what that is.
type gate struct {
	c          *cluster
	kubeconfig string

	mu     sync.Mutex
	shut   chan struct{}   // closed to end all that is under way; nil while all are refused
	held   map[string]bool // resources whose requests wait
	halved map[string]bool // resources that are told in part
	moved  *sync.Cond
}

var gateAddr = netip.MustParseAddrPort("127.0.0.1:6080")

func newGate(c *cluster) *gate {
	c.t.Helper()
	g := &gate{c: c, shut: make(chan struct{}), held: map[string]bool{}, halved: map[string]bool{}}
	g.moved = sync.NewCond(&g.mu)
	g.kubeconfig = filepath.Join(c.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://%s'}}]\n"+
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", gateAddr)
	if err := os.WriteFile(g.kubeconfig, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(c.api.CA)
	transport := &http.Transport{DialContext: c.NS.DialContext, TLSClientConfig: &tls.Config{RootCAs: authorities}}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(must(neturl.Parse(c.api.URL)))
			r.Out.Header.Set("Authorization", "Bearer "+c.api.Usher.Token)
		},
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: g.halve,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:       log.New(io.Discard, "", 0), // it would tell each time that somebody is shut out
	}
	server := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.pass(w, r, forward) }),
		ErrorLog: forward.ErrorLog,
	}
	listener := c.NS.Listen("tcp", gateAddr)
	go server.Serve(listener)
	c.t.Cleanup(func() {
		g.close()
		server.Close()
		transport.CloseIdleConnections()
	})
	return g
}

// pass lets a request through as far as it may come.
func (g *gate) pass(w http.ResponseWriter, r *http.Request, next http.Handler) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(ctx, g.moved.Broadcast)()
	g.mu.Lock()
	for g.shut != nil && g.held[path.Base(r.URL.Path)] && ctx.Err() == nil {
		g.moved.Wait()
	}
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		panic(http.ErrAbortHandler) // no answer, but the end of the connection
	}
	go func() {
		select {
		case <-shut:
			cancel()
		case <-ctx.Done():
		}
	}()
	next.ServeHTTP(w, r.WithContext(ctx))
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// halve lets only the beginning of what tells all objects through; the rest waits. It is a
// list, or a watch that begins with one.
func (g *gate) halve(r *http.Response) error {
	resource, asked := path.Base(r.Request.URL.Path), r.Request.URL.Query()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.halved[resource] && (asked.Get("watch") == "" || asked.Get("sendInitialEvents") != "") {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(r.Body, 300), g.waiting(r.Request.Context(), resource), r.Body), r.Body}
	}
	return nil
}

// waiting has nothing to read, and says so once the list may go on.
func (g *gate) waiting(ctx context.Context, resource string) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		stop := context.AfterFunc(ctx, g.moved.Broadcast)
		defer stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		for g.halved[resource] && ctx.Err() == nil {
			g.moved.Wait()
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, io.EOF
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// close shuts usher out.
func (g *gate) close() {
	g.set(func() {
		if g.shut != nil {
			close(g.shut)
			g.shut = nil
		}
		clear(g.held)
		clear(g.halved)
	})
}

func (g *gate) open() { g.set(func() { g.shut = make(chan struct{}) }) }

func (g *gate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	g.moved.Broadcast()
}

// compact has etcd forget everything but the present.
func (c *cluster) compact() {
	c.t.Helper()
	ask := func(path, body string) (answer struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}) {
		resp, err := c.HTTPClient().Post("http://127.0.0.1:2379/v3/kv/"+path, "application/json", strings.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
			c.t.Fatalf("etcd: %s, %v", resp.Status, err)
		}
		return answer
	}
	// Of a key of its own, so that there is something to forget even if nothing has happened.
	now := ask("put", `{"key": "b2xk", "value": "bmV3"}`).Header.Revision
	ask("compaction", fmt.Sprintf(`{"revision": %q, "physical": true}`, now))
}

// metric is the sum of a metric of usher over all its labels, and false if there is none.
func (c *cluster) metric(name string) (sum float64, known bool) {
	resp, err := c.HTTPClient().Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, name); is && (rest[0] == ' ' || rest[0] == '{') {
			n, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
			sum, known = sum+n, true
		}
	}
	return sum, known
}

// awaitMetric waits until a metric is as wanted.
func (c *cluster) awaitMetric(name string, wanted func(float64) bool) {
	c.t.Helper()
	netns.EventuallyWithin(c.t, slowly, name, func() error {
		if n, known := c.metric(name); !known || !wanted(n) {
			return fmt.Errorf("it is %v, %v", n, known)
		}
		return nil
	})
}

// restores counts how often the programs that write rules are run from now on: in front of
// each is a script that notes it.
func (c *cluster) restores() (path string, count func() int) {
	c.t.Helper()
	dir := c.t.TempDir()
	log := filepath.Join(dir, "calls")
	for _, name := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore", "iptables-save", "ip6tables-save"} {
		real := strings.TrimSpace(c.Run("sh", "-c", "command -v "+name))
		note := ""
		if strings.HasSuffix(name, "-restore") {
			note = "echo " + name + " >> " + log + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+note+"exec "+real+" \"$@\"\n"), 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	return dir + ":" + os.Getenv("PATH"), func() int {
		calls, _ := os.ReadFile(log)
		return bytes.Count(calls, []byte("\n"))
	}
}

// listening are the sockets that usher listens on for connections, by their ports.
func (c *cluster) listening() map[uint16]string {
	c.t.Helper()
	inodes := map[uint16]string{}
	for _, line := range strings.Split(c.Run("cat", "/proc/net/tcp", "/proc/net/tcp6"), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil && n >= 11000 && n < 30000 {
			inodes[uint16(n)] += fields[9] + " "
		}
	}
	return inodes
}

// visitor has a connection to a Service, and a UDP session with another one, that stay.
type visitor struct {
	c         *cluster
	tcp       net.Conn
	answers   *bufio.Reader
	udp       net.Conn
	datagrams string // who answers them
}

func (c *cluster) visit(web, dns string) *visitor {
	c.t.Helper()
	v := &visitor{c: c}
	var err error
	if v.tcp, err = c.Client.NS.Dial("tcp", strings.TrimPrefix(web, "http://")+":80"); err != nil {
		c.t.Fatal(err)
	}
	if v.udp, err = c.Client.NS.Dial("udp", strings.TrimPrefix(dns, "http://")+":53"); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(v.leave)
	v.answers = bufio.NewReader(v.tcp)
	v.isServed()
	return v
}

// leave ends both. usher would wait for them when it is stopped.
func (v *visitor) leave() {
	v.tcp.Close()
	v.udp.Close()
}

// isServed fails the test unless both go on as before.
func (v *visitor) isServed() {
	v.c.t.Helper()
	v.tcp.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(v.tcp, "GET / HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		v.c.t.Fatalf("the connection that stays: %v", err)
	}
	resp, err := http.ReadResponse(v.answers, nil)
	if err != nil {
		v.c.t.Fatalf("the connection that stays: %v", err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()

	v.udp.SetDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 100)
	if _, err := v.udp.Write([]byte("who")); err != nil {
		v.c.t.Fatalf("the UDP session that stays: %v", err)
	}
	n, err := v.udp.Read(answer)
	if err != nil {
		v.c.t.Fatalf("the UDP session that stays: %v", err)
	}
	if now := string(answer[:n]); v.datagrams == "" {
		v.datagrams = now
	} else if now != v.datagrams {
		v.c.t.Errorf("the UDP session has gone from %s to %s", v.datagrams, now)
	}
}

// serveUDP is serve for datagrams to port 53.
func (c *cluster) serveUDP(name string, pods ...*netns.Pod) string {
	c.t.Helper()
	s := service(name)
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 53, Protocol: corev1.ProtocolUDP}}
	sl := slice(s, "1", pods...)
	udp := corev1.ProtocolUDP
	sl.Ports[0].Protocol = &udp
	c.api.Apply(s, sl)
	return url(s)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
