package kubeproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftTable is the name of the tables of mode nftables.
const nftTable = "kube-proxy"

// nftFamilies are kube-proxy's, as nft calls them.
var nftFamilies = []struct {
	name   string
	number byte
}{{"ip", unix.NFPROTO_IPV4}, {"ip6", unix.NFPROTO_IPV6}}

// findTables asks the kernel itself: the program nft may be missing. See
// linux/netfilter/nf_tables.h and nfnetlink.h.
func findTables() (found []string, err error) {
	list := nftMessage(nftType(unix.NFT_MSG_GETTABLE), unix.NLM_F_DUMP, unix.NFPROTO_UNSPEC, 0, 1)
	err = talk(list, 1, func(m syscall.NetlinkMessage) error {
		if m.Header.Type != nftType(unix.NFT_MSG_NEWTABLE) || len(m.Data) < nfgenLen {
			return nil
		}
		attrs, err := nl.ParseRouteAttr(m.Data[nfgenLen:])
		if err != nil {
			return err
		}
		for _, a := range attrs {
			for _, f := range nftFamilies {
				if a.Attr.Type == unix.NFTA_TABLE_NAME && unix.ByteSliceToString(a.Value) == nftTable && m.Data[0] == f.number {
					found = append(found, f.name+" "+nftTable)
				}
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return nil, nil // a kernel without nftables has no tables
	case err != nil:
		return nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	return found, nil
}

// removeTable deletes a table with all that is in it, at once.
func removeTable(name string) error {
	for _, f := range nftFamilies {
		if name != f.name+" "+nftTable {
			continue
		}
		batch := nftMessage(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, 1)
		batch = append(batch, nftMessage(nftType(unix.NFT_MSG_DELTABLE), unix.NLM_F_ACK, f.number, 0, 2,
			nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(nftTable)))...)
		batch = append(batch, nftMessage(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, 3)...)
		err := talk(batch, 2, func(syscall.NetlinkMessage) error { return nil })
		if errors.Is(err, unix.ENOENT) {
			return nil // somebody was faster
		}
		return err
	}
	return fmt.Errorf("%s is no table of kube-proxy", name)
}

func nftType(message uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | message }

// nfgenLen is the size of a struct nfgenmsg: family, version 0 and a number in
// network byte order.
const nfgenLen = 4

func nftMessage(kind uint16, flags int, family byte, resource uint16, seq uint32, attrs ...*nl.RtAttr) []byte {
	request := nl.NewNetlinkRequest(int(kind), flags)
	request.Seq = seq
	request.AddRawData(binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource))
	for _, a := range attrs {
		request.RawData = append(request.RawData, a.Serialize()...)
	}
	return request.Serialize()
}

// talk sends requests to netfilter and passes what comes back to each, up to the end
// of the answer to the request with the number last. The first error ends it.
func talk(requests []byte, last uint32, each func(syscall.NetlinkMessage) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// The kernel answers at once; nothing is to wait forever if it does not.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	if err := unix.Sendto(fd, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if len(m.Data) < 4 {
					return errors.New("netlink: an answer was cut short")
				}
				if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
					return syscall.Errno(errno)
				}
				if m.Header.Seq == last {
					return nil
				}
			default:
				if err := each(m); err != nil {
					return err
				}
			}
		}
	}
}
