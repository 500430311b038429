package apiserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

const (
	port = 6443

	// readyPatience is how long the API server may take to get ready: some seconds on a
	// machine that has nothing else to do.
	readyPatience = 3 * time.Minute

	// requestTimeout bounds a request of the helpers that fail the test.
	requestTimeout = 30 * time.Second
)

// A ControlPlane is a running API server with its own etcd. It ends with its test; if that
// failed, the logs are part of its output.
type ControlPlane struct {
	Addr netip.AddrPort // where it serves
	URL  string
	CA   []byte // PEM; signs what it serves with

	Admin *User // may do everything
	Usher *User // may do what usher needs on a node, and nothing else

	t      testing.TB
	ns     *netns.NS
	dir    string // keys, kubeconfigs, data and logs
	etcd   *process
	server *process // nil while stopped
}

// Start starts a control plane that serves on port 6443 of an address of the namespace, and
// waits until it is ready. Its etcd listens on 127.0.0.1 there, so a namespace has room for
// one.
func Start(t testing.TB, ns *netns.NS, addr netip.Addr) *ControlPlane {
	t.Helper()
	cp := &ControlPlane{Addr: netip.AddrPortFrom(addr, port), t: t, ns: ns, dir: t.TempDir()}
	cp.URL = "https://" + cp.Addr.String()
	if err := cp.prepare(); err != nil {
		t.Fatalf("control plane: %v", err)
	}
	cp.startEtcd()
	cp.StartServer()
	role, err := usherRole()
	if err != nil {
		t.Fatalf("usher's role: %v", err)
	}
	cp.Apply(role, usherRoleBinding())
	return cp
}

// prepare writes what the server needs.
func (cp *ControlPlane) prepare() error {
	if err := writeKeys(cp.dir, cp.certIPs()); err != nil {
		return err
	}
	var err error
	if cp.CA, err = os.ReadFile(cp.path(caFile)); err != nil {
		return err
	}
	if cp.Admin, err = cp.newUser("admin"); err != nil {
		return err
	}
	if cp.Usher, err = cp.newUser("usher"); err != nil {
		return err
	}
	if err := os.WriteFile(cp.path(auditPolicyFile), []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	tokens := fmt.Sprintf("%s,admin,admin,system:masters\n%s,usher,usher\n", cp.Admin.Token, cp.Usher.Token)
	return os.WriteFile(cp.path("tokens.csv"), []byte(tokens), 0o600)
}

// certIPs are the addresses at which clients may reach the server, the Service kubernetes
// included.
func (cp *ControlPlane) certIPs() []net.IP {
	var ips []net.IP
	for _, addr := range []netip.Addr{
		cp.Addr.Addr(),
		netip.MustParseAddr("127.0.0.1"),
		netip.IPv6Loopback(),
		netns.ServiceCIDRv4.Addr().Next(),
		netns.ServiceCIDRv6.Addr().Next(),
	} {
		ips = append(ips, addr.AsSlice())
	}
	return ips
}

// path is that of a file of the control plane.
func (cp *ControlPlane) path(name string) string { return filepath.Join(cp.dir, name) }

func (cp *ControlPlane) serverArgs() []string {
	endpoints := "lease" // the server publishes itself as default/kubernetes ...
	if cp.Addr.Addr().IsLoopback() {
		endpoints = "none" // ... unless that would not be a valid endpoint
	}
	return []string{
		"--etcd-servers=http://" + etcdAddr.String(),
		"--bind-address=" + cp.Addr.Addr().String(),
		"--advertise-address=" + cp.Addr.Addr().String(),
		fmt.Sprintf("--secure-port=%d", cp.Addr.Port()),
		"--endpoint-reconciler-type=" + endpoints,
		"--tls-cert-file=" + cp.path(servingCertFile),
		"--tls-private-key-file=" + cp.path(servingKeyFile),
		"--token-auth-file=" + cp.path("tokens.csv"),
		"--audit-policy-file=" + cp.path(auditPolicyFile),
		"--audit-log-path=" + cp.path(auditFile),
		"--authorization-mode=RBAC",
		"--disable-admission-plugins=ServiceAccount", // nobody makes the accounts
		"--service-account-issuer=https://kubernetes.default.svc",
		"--feature-gates=StrictIPCIDRValidation=false", // objects as older servers have let them in
		"--service-account-key-file=" + cp.path(serviceAccountFile),
		"--service-account-signing-key-file=" + cp.path(serviceAccountFile),
		fmt.Sprintf("--service-cluster-ip-range=%v,%v", netns.ServiceCIDRv4, netns.ServiceCIDRv6),
	}
}

// StartServer starts the API server after [ControlPlane.StopServer], with all the objects it
// had, and waits until it is ready.
func (cp *ControlPlane) StartServer() {
	cp.t.Helper()
	cp.server = cp.start("kube-apiserver", cp.serverArgs())
	netns.EventuallyWithin(cp.t, readyPatience, "API server ready", func() error {
		cp.etcd.mustRun(cp.t)
		cp.server.mustRun(cp.t)
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		return cp.Admin.ready(ctx)
	})
}

// StopServer ends the API server as a crash does, its connections included. Its etcd goes on.
func (cp *ControlPlane) StopServer() {
	cp.server.kill()
	cp.server = nil
}

// FreezeServer keeps the API server from doing anything until [ControlPlane.ThawServer]: its
// connections stay, and nothing answers.
func (cp *ControlPlane) FreezeServer() { cp.server.cmd.Process.Signal(syscall.SIGSTOP) }

// ThawServer ends [ControlPlane.FreezeServer].
func (cp *ControlPlane) ThawServer() { cp.server.cmd.Process.Signal(syscall.SIGCONT) }

// Apply makes the objects of the server equal to these, as admin. It fails the test if it
// cannot.
func (cp *ControlPlane) Apply(objs ...Object) {
	cp.t.Helper()
	cp.each(objs, "apply", cp.Admin.Apply)
}

// Delete deletes objects as admin. It fails the test if it cannot.
func (cp *ControlPlane) Delete(objs ...Object) {
	cp.t.Helper()
	cp.each(objs, "delete", cp.Admin.Delete)
}

func (cp *ControlPlane) each(objs []Object, verb string, f func(context.Context, Object) error) {
	cp.t.Helper()
	for _, obj := range objs {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		err := f(ctx, obj)
		cancel()
		if err != nil {
			cp.t.Fatalf("%s %T %s/%s: %v", verb, obj, obj.GetNamespace(), obj.GetName(), err)
		}
	}
}
