package proxier

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// headerTimeout bounds the write of a header of some bytes to a connection that
// has just been made, which never has to wait.
const headerTimeout = time.Second

// announce tells an endpoint who the client is, and what it has dialled, before
// anything else (PROXY protocol of HAProxy, version 1 or 2).
func announce(backend *net.TCPConn, version byte, client, vip netip.AddrPort) error {
	header := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(vip))
	err := backend.SetWriteDeadline(time.Now().Add(headerTimeout))
	if err == nil {
		_, err = header.WriteTo(backend)
	}
	if err = errors.Join(err, backend.SetWriteDeadline(time.Time{})); err != nil {
		return fmt.Errorf("write the PROXY protocol header: %w", err)
	}
	return nil
}
