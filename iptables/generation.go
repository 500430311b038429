package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Generation is another one when rules have changed, whoever has changed them.
type Generation [3]uint64

// Generation asks the kernel for the present one. That costs some microseconds,
// however many rules there are. With nf_tables it is the generation of all rules in the network namespace (NFT_MSG_GETGEN in
// linux/netfilter/nf_tables.h), so every change is seen, also one of somebody else's
// table. The legacy tables have none: a change is seen if it changes how many rules one
// of ours has, or their size (IPT_SO_GET_INFO in linux/netfilter_ipv4/ip_tables.h).
func (t *Table) Generation() (Generation, error) {
	if t.programs.backend == backendNFT {
		return nftGeneration()
	}
	return legacyGeneration(t.family)
}

func nftGeneration() (g Generation, err error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := request.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	if err != nil {
		return g, fmt.Errorf("ask for the generation of nf_tables: %w", err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofNfgenmsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		if err != nil {
			return g, fmt.Errorf("read the generation of nf_tables: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				g[0] = uint64(binary.BigEndian.Uint32(a.Value))
				return g, nil
			}
		}
	}
	return g, errors.New("the kernel does not tell the generation of nf_tables")
}

// tableInfo is struct ipt_getinfo, which is the same as struct ip6t_getinfo.
type tableInfo struct {
	name       [32]byte
	validHooks uint32
	hookEntry  [5]uint32
	underflow  [5]uint32
	entries    uint32
	size       uint32
}

// tableGetInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const tableGetInfo = 64

func legacyGeneration(f Family) (g Generation, err error) {
	domain, level := unix.AF_INET, unix.SOL_IP
	if f == IPv6 {
		domain, level = unix.AF_INET6, unix.SOL_IPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return g, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for i, table := range []string{nat, filter, mangle} {
		info := tableInfo{}
		copy(info.name[:], table)
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), tableGetInfo,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return g, fmt.Errorf("ask for the size of table %s: %w", table, os.NewSyscallError("getsockopt", errno))
		}
		g[i] = uint64(info.entries)<<32 | uint64(info.size)
	}
	return g, nil
}
