package transparent

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// given a node, when endpoints are dialled from the address of a client whose
// replies the node routes, then they see that address, whatever the reverse
// path filter is, and even where it honours marks.
func TestEndpointSeesTheClient(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		web := map[netip.AddrPort]*netns.Backend{}
		serve := func(pod *netns.Pod) netip.AddrPort {
			b := pod.ServeHTTP(pod.Name, netip.AddrPortFrom(v.pod(pod), 8080))
			web[b.Addr] = b
			return b.Addr
		}
		l.everyJourney(v, serve, func(name string, client netip.Addr, endpoint netip.AddrPort) {
			if seen, err := l.seenBy(web[endpoint], client); err != nil || seen != client {
				t.Fatalf("%s: the endpoint sees %s, %v", name, seen, err) // the others would take long
			}
		})
	})
}

// everyJourney has every client whose replies the node routes travel to an endpoint,
// whatever the reverse path filter is. serve makes a pod one; nothing may be in the
// way.
func (l *lab) everyJourney(v variant, serve func(*netns.Pod) netip.AddrPort, travel func(name string, client netip.Addr, endpoint netip.AddrPort)) {
	l.t.Helper()
	other := l.AddNode("other")
	bridged, routed := l.AddPod(netns.Bridged, "bridged"), l.AddPod(netns.Routed, "routed")
	remote := other.AddPod(netns.Bridged, "remote")
	here := map[*netns.Pod]bool{bridged: true, routed: true}
	endpoint := map[*netns.Pod]netip.AddrPort{}
	for _, pod := range []*netns.Pod{bridged, routed, remote} {
		endpoint[pod] = serve(pod)
	}
	for _, filter := range []struct{ rpFilter, srcValidMark string }{{"2", "0"}, {"1", "0"}, {"0", "0"}, {"1", "1"}, {"2", "1"}} {
		l.everyInterface("rp_filter", filter.rpFilter)
		l.everyInterface("src_valid_mark", filter.srcValidMark)
		for _, c := range []struct {
			client     netip.Addr
			clientHere bool
			to         *netns.Pod
		}{
			{v.pod(bridged), true, routed},
			{v.pod(routed), true, bridged},
			{v.pod(bridged), true, remote},
			{v.pod(routed), true, remote},
			{v.client(), false, bridged},
			{v.client(), false, routed},
			{v.pod(remote), false, routed},
		} {
			name := fmt.Sprintf("rp_filter %s, src_valid_mark %s: %s to %s", filter.rpFilter, filter.srcValidMark, c.client, c.to.Name)
			if o := l.obstacle(Flow{c.client, endpoint[c.to].Addr(), c.clientHere, here[c.to]}); o != None {
				l.t.Errorf("%s: obstacle %q", name, o)
			}
			travel(name, c.client, endpoint[c.to])
		}
	}
}

// given a connection from a client's address, when much data goes both ways,
// then it arrives complete, and the end of one direction leaves the other one.
func TestDataBothWays(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		echo := endpoint.ServeTCPEcho(netip.AddrPortFrom(v.pod(endpoint), 7))
		conn, err := l.dial(v.pod(client), echo.Addr, patience)
		l.must(err)
		defer conn.Close()
		sent := make([]byte, 4<<20)
		rand.Read(sent)
		written := make(chan error, 1)
		go func() {
			_, err := conn.Write(sent)
			conn.(interface{ CloseWrite() error }).CloseWrite()
			written <- err
		}()
		received, err := io.ReadAll(conn)
		if writeErr := <-written; err != nil || writeErr != nil || !bytes.Equal(sent, received) {
			t.Errorf("sent %d bytes (%v), received %d (%v)", len(sent), writeErr, len(received), err)
		}
	})
}
