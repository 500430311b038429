package udp

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// successorEnv tells this binary that it goes on with the Socket of another process. Its
// value is the endpoint.
const successorEnv = "USHER_TEST_UDP_SUCCESSOR"

// line is how two processes give each other a Socket: all of one in a message.
type line struct{ *net.UnixConn }

// parcel is what goes over a line. Its sender has counted so much.
type parcel struct {
	State                SocketState
	Opened, Closed, Left int
	Drops                string
}

func lineOf(fd int) line {
	f := os.NewFile(uintptr(fd), "line")
	defer f.Close()
	conn, err := net.FileConn(f)
	panicOn(err)
	return line{conn.(*net.UnixConn)}
}

func panicOn(err error) {
	if err != nil {
		panic(err)
	}
}

// files are all files of a state, in an order of their own.
func (s *SocketState) files() (list []*int) {
	list = append(list, &s.FD)
	for i := range s.Readers {
		list = append(list, &s.Readers[i].FD)
	}
	for i := range s.Sessions {
		list = append(list, &s.Sessions[i].FD)
	}
	return list
}

// send gives a Socket away: nothing of it stays here.
func (l line) send(p parcel) {
	text, err := json.Marshal(p)
	panicOn(err)
	var files []int
	for _, fd := range p.State.files() {
		files = append(files, *fd)
	}
	_, _, err = l.WriteMsgUnix(text, unix.UnixRights(files...), nil)
	panicOn(err)
	p.State.close()
}

func (l line) receive() (p parcel) {
	text, rights := make([]byte, 1<<20), make([]byte, 4096)
	n, m, _, _, err := l.ReadMsgUnix(text, rights)
	panicOn(err)
	panicOn(json.Unmarshal(text[:n], &p))
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	panicOn(err)
	files, err := unix.ParseUnixRights(&messages[0])
	panicOn(err)
	for i, fd := range p.State.files() {
		*fd = files[i]
	}
	return p
}

// succeed is the other process: it goes on with a Socket until it is asked to give it
// back.
func succeed() {
	l := lineOf(3)
	relay, err := New(Config{Loops: 2, Readers: 2, Limit: func() int { return 10000 }})
	panicOn(err)
	a := &account{drops: map[observe.DropCause]int{}}
	before := openFiles()
	group := relay.Group(manySessions)
	socket, err := relay.Resume(l.receive().State, group, &server{account: a, endpoints: []netip.AddrPort{netip.MustParseAddrPort(os.Getenv(successorEnv))}})
	panicOn(err)
	l.Write([]byte("it serves"))
	l.Read(make([]byte, 1)) // until it is to give it back
	state, err := socket.Release()
	panicOn(err)
	p := parcel{State: state, Opened: a.sessions(), Closed: len(a.ended()), Drops: a.dropped()}
	p.Left = openFiles() - before - len(state.files())
	l.send(p)
	relay.Close()
}

// openFiles is how many sockets this process has.
func openFiles() int {
	list, err := os.ReadDir("/proc/self/fd")
	panicOn(err)
	return len(list)
}

// startSuccessor starts another process.
func startSuccessor(t *testing.T, endpoint netip.AddrPort) (l line, wait func()) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	theirs := os.NewFile(uintptr(pair[1]), "line")
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprint(successorEnv, "=", endpoint))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
	must(t, cmd.Start())
	theirs.Close()
	l = lineOf(pair[0])
	return l, func() {
		l.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
	}
}

// TestHandOverToOtherProcesses has a Socket go to another process and back, while clients
// ask. Each process ends when it has given it back.
func TestHandOverToOtherProcesses(t *testing.T) {
	for _, readers := range []int{1, 4} {
		t.Run(fmt.Sprint(readers, " readers"), func(t *testing.T) {
			eachFamily(t, func(t *testing.T, loopback string) {
				l := newLab(t, setup{addr: loopback, loops: readers, readers: readers, limits: manySessions})
				b := seer(t, loopback)
				l.serve(b.addr)
				s := newStorm(l, 20)
				s.more(200)
				for range 5 {
					other, wait := startSuccessor(t, b.addr)
					other.SetDeadline(time.Now().Add(patience))
					other.send(parcel{State: l.release()})
					other.Read(make([]byte, 100))
					s.more(200)
					other.Write([]byte{1})
					back := other.receive()
					l.resume(back.State, b.addr)
					wait()
					if back.Opened+back.Closed+back.Left != 0 || back.Drops != "" {
						t.Errorf("the other process has opened %d sessions, closed %d, dropped %q and keeps %d files", back.Opened, back.Closed, back.Drops, back.Left)
					}
					s.more(200)
				}
				s.end()
				l.settle()
				if l.sessions() != 20 || l.relay.Len() != 20 || l.dropped() != "" {
					t.Errorf("%d sessions, %d in the table, drops %q", l.sessions(), l.relay.Len(), l.dropped())
				}
				l.close(observe.Shutdown)
				s.wantStories(l.ended())
			})
		})
	}
}
