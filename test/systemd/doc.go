// Package systemd boots real machines for tests: Debian's systemd as process 1, in a container
// (systemd-nspawn) whose network is the node of the kernel lab (package netns), so that its
// pods and clients reach what a unit serves.
//
//	func TestMain(m *testing.M) { netns.Main(m, systemd.Build) }
//
//	func TestUnit(t *testing.T) {
//		m := systemd.Boot(t)
//		m.Push("/etc/systemd/system/web.service", unit, 0o644)
//		m.Systemctl("daemon-reload")
//		m.Systemctl("start", "web")
//		name, err := m.Client.Get("http://192.0.2.1:8080")
//		...
//	}
//
// The root is made once by debootstrap (build-root.sh) and kept in a cache. A machine writes
// into memory, boots within a second or so, and is gone with its test. It takes root: tests of
// ordinary users are skipped.
package systemd
