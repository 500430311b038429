package udp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

func TestLookAtSessions(t *testing.T) {
	l := newLab(t, setup{limits: Limits{Sessions: 10000, Idle: time.Minute, Stream: time.Minute}})
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	l.serve(netip.MustParseAddrPort(silent.LocalAddr().String()))
	const n = 2*lookAtOnce + 7 // more than are looked at at once
	for i := range n {
		l.client().send("hello")
		if i%64 == 0 {
			l.wantPassed(i + 1)
		}
	}
	l.wantPassed(n)
	clients := map[netip.AddrPort]bool{}
	l.relay.Look(func(s Live) {
		if s.In != 1 || s.BytesIn != 5 || s.FirstReply != -1 || s.Server == nil || s.Idle < 0 {
			t.Errorf("a session is %+v", s)
		}
		clients[s.Client] = true
	})
	if len(clients) != n {
		t.Errorf("%d clients are seen, want %d", len(clients), n)
	}
	l.close(observe.Shutdown)
	l.relay.Look(func(s Live) { t.Errorf("%+v is seen after the end", s) })
}
