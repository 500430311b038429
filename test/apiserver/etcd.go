package apiserver

import (
	"net/netip"

	"github.com/usher-proxy/usher/test/netns"
)

// Where etcd listens, inside the namespace.
var (
	etcdAddr     = netip.MustParseAddrPort("127.0.0.1:2379")
	etcdPeerAddr = netip.MustParseAddrPort("127.0.0.1:2380") // it has no peers, but insists
)

// startEtcd starts etcd and waits until it accepts connections.
func (cp *ControlPlane) startEtcd() {
	cp.t.Helper()
	url, peerURL := "http://"+etcdAddr.String(), "http://"+etcdPeerAddr.String()
	cp.etcd = cp.start("etcd", []string{
		"--name=test",
		"--data-dir=" + cp.path("etcd"),
		"--listen-client-urls=" + url,
		"--advertise-client-urls=" + url,
		"--listen-peer-urls=" + peerURL,
		"--initial-advertise-peer-urls=" + peerURL,
		"--initial-cluster=test=" + peerURL,
		"--log-level=warn",
		"--unsafe-no-fsync", // the data need not outlive the machine
	})
	netns.EventuallyWithin(cp.t, readyPatience, "etcd listens", func() error {
		cp.etcd.mustRun(cp.t)
		conn, err := cp.ns.Dial("tcp", etcdAddr.String())
		if err == nil {
			conn.Close()
		}
		return err
	})
}
