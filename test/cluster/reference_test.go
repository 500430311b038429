package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/conformance"
	"github.com/usher-proxy/usher/test/netns"
)

// The conformance cases tell what Kubernetes promises, and not what usher does:
// kube-proxy passes them too, but for those that say why not.
func TestReference(t *testing.T) {
	program := kubeProxyProgram(t)
	w := conformance.NewRoutedWorld(t)
	api := apiserver.Start(t, w.NS, netns.NodeIPv4)
	conformance.Run(t, w, "kube-proxy", store{t, api}, kubeProxy{program, api.Admin.Kubeconfig, "iptables"})
}

// kubeProxyProgram is its path. The test is skipped if it is not built.
func kubeProxyProgram(t *testing.T) string {
	t.Helper()
	dir, err := apiserver.Binaries("etcd")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "kube-proxy")
	if _, err := os.Stat(program); err != nil {
		t.Skip("kube-proxy is not built: make conformance does it")
	}
	return program
}

// kubeProxy is kube-proxy in one of its modes: iptables, which is its default, or nftables.
type kubeProxy struct{ program, kubeconfig, mode string }

func (kubeProxy) Reference() bool { return true }

func (k kubeProxy) Start(t testing.TB, node *netns.Node, o conformance.Options) conformance.Process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "kube-proxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the last that kube-proxy on %s said:\n%s", node.Name, text[max(0, len(text)-8<<10):])
		}
		log.Close()
	})
	p := &kubeProxyProcess{node.Command(context.Background(), k.program, k.args(node, o)...)}
	p.Stdout, p.Stderr = log, log
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	netns.EventuallyWithin(t, time.Minute, "kube-proxy is ready", func() error {
		resp, err := node.HTTPClient().Get("http://127.0.0.1:10256/livez")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("livez: %s", resp.Status)
		}
		return nil
	})
	return p
}

func (k kubeProxy) args(node *netns.Node, o conformance.Options) []string {
	args := []string{
		"--kubeconfig=" + k.kubeconfig, "--hostname-override=" + node.Name,
		"--proxy-mode=" + k.mode, "--detect-local-mode=NodeCIDR",
		"--iptables-min-sync-period=10ms", "--iptables-sync-period=" + o.SyncPeriod.String(),
		fmt.Sprintf("--iptables-localhost-nodeports=%t", o.LoopbackNodePorts),
		// It must not need more rights than an ordinary user has in namespaces of his own.
		"--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s",
		"--conntrack-tcp-timeout-close-wait=0s", "--oom-score-adj=0",
	}
	if len(o.NodePortAddresses) > 0 {
		args = append(args, "--nodeport-addresses="+strings.Join(o.NodePortAddresses, ","))
	}
	return args
}

// A kubeProxyProcess is a kube-proxy that runs.
type kubeProxyProcess struct{ *netns.Cmd }

func (p *kubeProxyProcess) Stop() int { return p.end(syscall.SIGTERM) }
func (p *kubeProxyProcess) Kill()     { p.end(syscall.SIGKILL) }
func (p *kubeProxyProcess) PID() int  { return p.Process.Pid }

func (p *kubeProxyProcess) end(signal syscall.Signal) int {
	p.Process.Signal(signal)
	p.Wait()
	return p.ProcessState.ExitCode()
}

// applyNodeOfKubeProxy gives the cluster the node that kube-proxy runs on, which asks
// it for the addresses of its pods.
func (c *cluster) applyNodeOfKubeProxy() {
	c.api.Apply(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: c.Node.Name},
		Spec:       corev1.NodeSpec{PodCIDR: c.PodCIDRv4.String(), PodCIDRs: []string{c.PodCIDRv4.String()}},
	})
}
