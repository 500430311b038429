// Package apiserver runs a real Kubernetes API server, and the etcd below it, for tests.
//
//	func TestMain(m *testing.M) { netns.Main(m, apiserver.Build) }
//
//	func TestSomething(t *testing.T) {
//		node := netns.NewNode(t, "node")
//		cp := apiserver.Start(t, node.NS, netns.NodeIPv4)
//		cp.Apply(service, slice)
//		...
//	}
//
// There are no controllers: no pods run, and EndpointSlices are what the test says they are.
// The versions are those of test/controlplane/go.mod.
package apiserver
