package cluster

import (
	"testing"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

func TestMain(m *testing.M) { netns.Main(m, buildControlPlane, usher.Build) }

func buildControlPlane() error {
	_, err := apiserver.Binaries("etcd", "kube-apiserver", "kubectl")
	return err
}
