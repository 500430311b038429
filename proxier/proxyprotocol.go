package proxier

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// announce tells an endpoint who the client is, and what it has dialled, before
// anything else (PROXY protocol of HAProxy, version 1 or 2). For a header of some bytes
// there is always room in a connection that has just been made.
func announce(backend *tcp.Conn, version byte, client, vip netip.AddrPort) error {
	header := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(vip))
	if _, err := header.WriteTo(backend); err != nil {
		return fmt.Errorf("write the PROXY protocol header: %w", err)
	}
	return nil
}
