package observe

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"
)

// Sockets are what the kernel knew of both sockets of a connection before they were closed.
type Sockets struct {
	// UnsentClient and UnsentBackend are the bytes that were on their way to each side and
	// that it has not acknowledged (SIOCOUTQ, and what was not given to the kernel yet).
	UnsentClient, UnsentBackend int64
	// Client and Backend are nil if they were not asked for, or there was no such socket.
	Client, Backend *TCPInfo
}

// TCPInfo is what the kernel says of a TCP socket (TCP_INFO of tcp(7)).
type TCPInfo struct {
	RTT     uint32 `json:"rtt_us"`    // smoothed round trip, in microseconds
	RTTVar  uint32 `json:"rttvar_us"` // and how it varies
	Retrans uint32 `json:"retrans"`   // segments that were sent once more, since it began
	Lost    uint32 `json:"lost"`      // segments that are taken for lost now
	MSS     uint32 `json:"snd_mss"`   // bytes in a segment to the peer
	State   string `json:"state"`     // its state as ss(8) and RFC 9293 name it
	// LastReceived is how many milliseconds ago the last data came.
	LastReceived uint32 `json:"last_recv_ms"`
}

// NewTCPInfo takes from the kernel's answer what a record tells; nil makes nil.
func NewTCPInfo(of *unix.TCPInfo) *TCPInfo {
	if of == nil {
		return nil
	}
	return &TCPInfo{
		RTT: of.Rtt, RTTVar: of.Rttvar, Retrans: of.Total_retrans, Lost: of.Lost, MSS: of.Snd_mss,
		State: tcpState(of.State), LastReceived: of.Last_data_recv,
	}
}

// tcpStates are those of the kernel (include/net/tcp_states.h).
var tcpStates = [...]string{
	1: "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED",
	"CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED",
}

func tcpState(n uint8) string {
	if n > 0 && int(n) < len(tcpStates) {
		return tcpStates[n]
	}
	return tooMany
}

func (i *TCPInfo) String() string {
	return fmt.Sprintf("rtt_us:%d,rttvar_us:%d,retrans:%d,lost:%d,snd_mss:%d,state:%s,last_recv_ms:%d",
		i.RTT, i.RTTVar, i.Retrans, i.Lost, i.MSS, i.State, i.LastReceived)
}

func (i *TCPInfo) appendJSON(b []byte) []byte {
	object, _ := json.Marshal(i) // no such struct is an error
	return append(b, object...)
}

// TCPInfoOf says of which connections a record tells the TCPInfo. The zero TCPInfoOf is
// OfTrouble.
type TCPInfoOf uint8

// The values of TCPInfoOf.
const (
	OfTrouble TCPInfoOf = iota // those with Record.Trouble
	OfAll
	OfNone
)

var tcpInfoOfs = map[string]TCPInfoOf{"errors": OfTrouble, "all": OfAll, "off": OfNone}

// ParseTCPInfoOf reads errors, all or off.
func ParseTCPInfoOf(text string) (of TCPInfoOf, ok bool) {
	of, ok = tcpInfoOfs[text]
	return of, ok
}

// Wants says whether it is told of a connection that ends for a reason.
func (of TCPInfoOf) Wants(r Reason) bool { return of == OfAll || of == OfTrouble && r != OK }
