package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/conformance"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// A node goes over from kube-proxy to usher and back, as README describes it. Who
// connects meanwhile waits for no packet to be sent again, which would take a second.
func TestTakeOverFromKubeProxyAndBack(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t)
			c.applyNodeOfKubeProxy()
			reference := kubeProxy{kubeProxyProgram(t), c.api.Admin.Kubeconfig, mode}
			first := reference.Start(t, c.Node, conformance.Options{SyncPeriod: 30 * time.Second})
			web := service("web")
			c.api.Apply(web, slice(web, "1", c.RoutedServer))
			c.answers(c.Client.NS, url(web), "routed-server")

			g := c.watchGaps(web.Spec.ClusterIP+":80", map[string]*netns.NS{"off-node": c.Client.NS, "pod": c.Routed.NS, "node": c.NS})
			var u *usher.Process
			g.during("usher starts beside kube-proxy", func() {
				u = c.launch("--kubeconfig="+c.api.Usher.Kubeconfig, "--with-kube-proxy")
				netns.EventuallyWithin(t, slowly, "usher has its rules", func() error { // kube-proxy has the address of health
					if c.rulesOf("USHER-") == "" {
						return errors.New("it has none")
					}
					return nil
				})
			})
			g.during("kube-proxy stops, and what it leaves is removed", func() {
				first.Stop()
				if stdout, stderr, code := usher.Run(t, c.NS, "cleanup", "--kube-proxy"); code != 0 {
					t.Errorf("usher cleanup --kube-proxy ended with exit code %d: %s%s", code, stdout, stderr)
				}
				if left := c.kubeProxyRules(); left != "" {
					t.Errorf("of kube-proxy there is left:\n%s", left)
				}
			})
			g.during("usher is alone", func() { u.Records(len(u.Records(0, isWeb))+5, isWeb) })
			g.during("kube-proxy starts beside usher", func() {
				reference.Start(t, c.Node, conformance.Options{SyncPeriod: 30 * time.Second})
				netns.EventuallyWithin(t, slowly, "kube-proxy has its rules again", func() error {
					if c.kubeProxyRules() == "" {
						return errors.New("it has none")
					}
					return nil
				})
			})
			g.during("usher stops", func() {
				if code := u.Stop(); code != 0 {
					t.Errorf("usher ended with exit code %d", code)
				}
			})
			for _, told := range g.stop() {
				t.Log(told)
			}
		})
	}
}

// kubeProxyRules are those of kube-proxy that are about the Service web.
func (c *cluster) kubeProxyRules() string {
	var rules []string
	for line := range strings.Lines(c.Run("iptables-save") + c.Run("nft", "list", "ruleset")) {
		if strings.Contains(line, "default/web") && !strings.Contains(line, "USHER-") {
			rules = append(rules, line)
		}
	}
	return strings.Join(rules, "")
}

// gaps connects to a Service every few milliseconds, from several places, and knows
// how long nobody has got an answer.
type gaps struct {
	t      *testing.T
	cancel func()
	all    sync.WaitGroup

	mu    sync.Mutex
	now   string
	order []string
	worst map[string]map[string]time.Duration // of a phase, by place
	asked map[string]int
}

const gapPace = 5 * time.Millisecond

func (c *cluster) watchGaps(to string, from map[string]*netns.NS) *gaps {
	ctx, cancel := context.WithCancel(context.Background())
	g := &gaps{t: c.t, cancel: cancel, worst: map[string]map[string]time.Duration{}, asked: map[string]int{}}
	g.begin("kube-proxy is alone")
	for name, ns := range from {
		g.all.Go(func() { g.ask(ctx, name, ns, to) })
	}
	c.t.Cleanup(func() { g.stop() })
	return g
}

// ask notes the time from one answer to the next, beyond the pace.
func (g *gaps) ask(ctx context.Context, place string, ns *netns.NS, to string) {
	for last := time.Now(); ctx.Err() == nil; {
		conn, err := ns.DialWith(ctx, &net.Dialer{Timeout: 10 * time.Second}, "tcp", to)
		if err == nil {
			fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 12))
			conn.Close()
		}
		if ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		if err != nil {
			g.t.Errorf("while %s a connection from %s failed: %v", g.now, place, err)
			g.mu.Unlock()
			return
		}
		g.worst[g.now][place] = max(g.worst[g.now][place], time.Since(last)-gapPace)
		g.asked[g.now]++
		last = time.Now()
		g.mu.Unlock()
		select {
		case <-time.After(gapPace):
		case <-ctx.Done():
		}
	}
}

// during does something, and waits for some answers after it.
func (g *gaps) during(what string, do func()) {
	g.t.Helper()
	g.begin(what)
	do()
	g.mu.Lock()
	enough := g.asked[what] + 100
	g.mu.Unlock()
	netns.EventuallyWithin(g.t, slowly, "answers while "+what, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if n := g.asked[what]; n < enough {
			return fmt.Errorf("%d answers", n)
		}
		return nil
	})
}

func (g *gaps) begin(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now, g.order = what, append(g.order, what)
	g.worst[what] = map[string]time.Duration{}
}

// stop returns what was seen in each phase.
func (g *gaps) stop() (told []string) {
	g.cancel()
	g.all.Wait()
	for _, phase := range g.order {
		told = append(told, fmt.Sprintf("%s: %d connections, the longest time without an answer %v", phase, g.asked[phase], g.worst[phase]))
	}
	return told
}
