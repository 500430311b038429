package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// What every policy promises, in one line.
func TestByTenant(t *testing.T) {
	balancertest.Run(t, func() balancer.Policy { return new(byTenant) })
}

func TestATenantHasItsShard(t *testing.T) {
	picker := new(byTenant).Picker(endpoints(20))
	for _, tenant := range []string{"10.1.2.", "10.1.3.", "fd00:1:2:3::"} {
		shard := map[netip.AddrPort]int{}
		for i := 1; i <= 200; i++ {
			pick, err := picker.Pick(balancer.Request{Client: netip.MustParseAddr(tenant + fmt.Sprint(i))})
			if err != nil {
				t.Fatal(err)
			}
			shard[pick.Endpoint.Addr]++
		}
		if len(shard) != shardSize {
			t.Errorf("%s has %d endpoints, want %d: %v", tenant, len(shard), shardSize, shard)
		}
	}
}

func endpoints(n int) (list []balancer.Endpoint) {
	for i := range n {
		list = append(list, balancer.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)})
	}
	return list
}

// The example serves a Service that chooses the policy by its annotation: clients of
// one network get its two endpoints and no others.
func TestAServiceChoosesIt(t *testing.T) {
	dir := t.TempDir()
	manifest, err := os.ReadFile("tenants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid() // addresses of our own: somebody may have the example running
	net98, vip := fmt.Sprintf("127.%d.%d.", 200+pid/250%50, pid%250), fmt.Sprintf("127.%d.%d.99", 200+pid/250%50, pid%250)
	text := strings.NewReplacer("127.98.0.", net98, "127.96.1.1", vip).Replace(string(manifest))
	if err := os.WriteFile(filepath.Join(dir, "tenants.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 4; i++ {
		serve(t, net98+fmt.Sprint(i)+":8081")
	}
	start(t, dir)

	for _, tenant := range []string{"127.66.1.", "127.77.3."} {
		heard := map[string]bool{}
		for i := 10; i < 30; i++ {
			heard[ask(t, tenant+fmt.Sprint(i), vip+":8080")] = true
		}
		if len(heard) != shardSize {
			t.Errorf("clients of %s0/24 are answered by %v, want %d endpoints", tenant, heard, shardSize)
		}
	}
}

// serve answers every connection with the address that it came to.
func serve(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, addr)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
}

// start builds the example and runs it until the test ends.
func start(t *testing.T, manifests string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "usher-tenants")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(binary, "run", "--manifests="+manifests, "--capture=bind", "--admin-socket=",
		"--healthz-bind-address=127.0.0.1:0", "--metrics-bind-address=127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			t.Log(lines.Text())
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-read
		cmd.Wait()
	})
}

// ask connects from an address, as soon as there is somebody to connect to.
func ask(t *testing.T, from, to string) string {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := dialer.Dial("tcp", to)
		if err == nil {
			answer, err := io.ReadAll(c)
			c.Close()
			if err == nil {
				return string(answer)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not served: %v", to, err)
		}
		time.Sleep(10 * time.Millisecond) // between two attempts
	}
}
