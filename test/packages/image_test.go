package packages

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// The root of the image, put together as its recipe does and mounted read-only, is all that
// usher needs to serve, with the capabilities of the unit and either backend of iptables.
func TestTheImageServes(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			node := netns.NewNode(t, "node")
			pod, client := node.AddPod(netns.Bridged, "pod"), node.AddPod(netns.Bridged, "client")
			pod.ServeHTTP("pod", pod.AddrPort4(8080))
			image := newImage(t, backend, web(pod.IPv4))

			if out := run(t, image.entry, "version"); !strings.HasPrefix(out, "usher ") {
				t.Errorf("usher version says %s", out)
			}
			t.Setenv("USHER_TEST_BINARY", image.entry)
			u := usher.Start(t, node.NS, "--manifests=/web.yaml", "--capture=iptables")
			netns.Eventually(t, "the Service is served", func() error {
				_, err := client.Get("http://10.96.0.10")
				return err
			})
			other := map[string]string{"nft": "legacy", "legacy": "nft"}[backend]
			if rules := node.Run("iptables-"+backend+"-save", "-t", "nat"); !strings.Contains(rules, "USHER-SERVICES") {
				t.Errorf("iptables-%s has no rules of usher's:\n%s", backend, rules)
			}
			if rules := node.Run("iptables-"+other+"-save", "-t", "nat"); strings.Contains(rules, "USHER-SERVICES") {
				t.Errorf("iptables-%s has rules of usher's:\n%s", other, rules)
			}
			if code := u.Stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestTheImageHasNoShell(t *testing.T) {
	image := newImage(t, "nft", "")
	for _, name := range []string{"/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/env", "/usr/bin/apt"} {
		if _, err := os.Lstat(image.dir + name); err == nil {
			t.Errorf("the image has %s", name)
		}
	}
}

// image is the root of a container.
type image struct {
	t     *testing.T
	dir   string
	entry string // a program that runs usher in there
}

func newImage(t *testing.T, backend, manifest string) *image {
	t.Helper()
	program(t, "iptables-legacy")
	archive := dist(t, "*_linux_"+runtime.GOARCH+".tar.gz")
	i := &image{t: t, dir: t.TempDir()}
	run(t, "../../examples/container/iptables.sh", i.dir)
	binary, err := io.ReadAll(inTar(t, unzipped(t, archive), "/usher"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(i.dir+"/usr/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.dir+"/usr/bin/usher", binary, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, i.dir+"/web.yaml", manifest)
	write(t, i.dir+"/dev/null", "")
	i.mount(i.dir, i.dir, unix.MS_BIND)
	i.mount("", i.dir, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
	i.mount("/proc", i.dir+"/proc", unix.MS_BIND|unix.MS_REC) // as every container has them
	i.mount("/dev/null", i.dir+"/dev/null", unix.MS_BIND)
	lock := filepath.Join(t.TempDir(), "xtables.lock")
	write(t, lock, "")
	i.mount(lock, i.dir+"/run/xtables.lock", unix.MS_BIND)

	i.entry = filepath.Join(t.TempDir(), "usher")
	start := confined(t, exec.Command(program(t, "chroot"), i.dir, "/usr/bin/usher"),
		append(slices.Clone(needed), "sys_chroot")) // for chroot itself
	write(t, i.entry, fmt.Sprintf("#!/bin/sh\nexport PATH=/usr/lib/iptables/%s:/usr/bin\nexec %s \"$@\"\n", backend, strings.Join(start.Args, " ")))
	if err := os.Chmod(i.entry, 0o755); err != nil {
		t.Fatal(err)
	}
	return i
}

// mount lasts as long as the test.
func (i *image) mount(source, target string, flags uintptr) {
	i.t.Helper()
	if err := unix.Mount(source, target, "", flags, ""); err != nil {
		i.t.Fatalf("mount %s: %v", target, err)
	}
	if flags&unix.MS_REMOUNT == 0 {
		i.t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	}
}

// web is a Service of one endpoint.
func web(endpoint netip.Addr) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [%s]}]
`, endpoint)
}
