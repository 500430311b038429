// Package netns is the kernel lab of usher's tests: real network namespaces, built in
// process through netlink, in which a test plays node, pods and clients at once.
//
//	func TestMain(m *testing.M) { netns.Main(m) }
//
//	func TestPodAnswers(t *testing.T) {
//		node := netns.NewNode(t, "node")
//		pod := node.AddPod(netns.Bridged, "web")
//		backend := pod.ServeHTTP("web", pod.AddrPort4(8080))
//		name, err := node.Get("http://" + backend.Addr.String())
//		...
//	}
//
// [Main] moves the whole test binary into a private network and mount namespace first, so
// neither root nor an ordinary user can harm the machine, and both run the same tests. When
// the tests are done it fails the run if goroutines, file descriptors or children are left.
//
// A socket belongs to the namespace of the thread that created it, for ever and whoever uses
// it later. So only the creation has to happen inside ([NS.Do]); everything else is ordinary
// Go. Beware of code that creates sockets in goroutines of its own, such as a dial by name:
// inside Do, goroutines started by f are outside.
//
// Everything here belongs to the test that made it and ends with it: a failing step fails
// that test at once, and t.Cleanup takes all away again in reverse order.
package netns
