package proxier

import (
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/udp"
)

// Keeper keeps sockets open beside this process, such as in systemd's fd store. When this one
// has crashed, the next one has them by Config.Inherited: clients that come in between wait.
// It is called by one goroutine.
type Keeper interface {
	// Keep makes these the files that it keeps, at once or later, and lets go of all others. It
	// has duplicated what it keeps when it returns. state, if it is called, returns what the
	// next process has to know of the files.
	Keep(files []KeptFile, state func() ([]byte, error))
	// Again receives when Keep is to be called again, though nothing has changed.
	Again() <-chan struct{}
	// Has is what it keeps now, by cookie. A process that takes over is told.
	Has() []uint64
	// Continue tells it what the process before has had it keep.
	Continue(cookies []uint64)
}

// KeptFile is a socket.
type KeptFile struct {
	Cookie uint64 // see handover.Cookie
	FD     int
}

// keepAgain is nil without a Keeper: then nothing comes.
func (p *Proxier) keepAgain() <-chan struct{} {
	if p.cfg.Keeper == nil {
		return nil
	}
	return p.cfg.Keeper.Again()
}

// keep has the sockets kept that clients may wait in. It belongs to the reconcile loop.
func (p *Proxier) keep() {
	if p.cfg.Keeper == nil {
		return
	}
	var files []KeptFile
	for _, l := range p.serving {
		for _, s := range l.sockets {
			files = append(files, s.kept()...)
		}
	}
	p.cfg.Keeper.Keep(files, p.stateOfKept)
}

// kept are the files to keep of a socket. One that refuses clients is left out: where there
// is no socket the kernel refuses them as well.
func (s *socket) kept() []KeptFile {
	if s.packet != nil {
		return s.packet.kept
	}
	if !s.stream.now.listen {
		return nil
	}
	if s.stream.cookie == 0 {
		s.stream.cookie, _ = handover.Cookie(s.stream.fd)
	}
	return []KeptFile{{s.stream.cookie, s.stream.fd}}
}

// toKeep are the files to keep of a socket that serves: its own one, then those that it reads
// from, which are others after each time that it refused. nil: it cannot be kept.
func (s *packetSocket) toKeep() (files []KeptFile) {
	own, readers := s.Files()
	for _, fd := range append([]int{own}, readers...) {
		cookie, err := handover.Cookie(fd)
		if err != nil {
			return nil
		}
		files = append(files, KeptFile{cookie, fd})
	}
	return files
}

// stateOfKept is what the next process has to know after a crash of this one.
func (p *Proxier) stateOfKept() ([]byte, error) {
	state := handedOver{Format: handoverFormat, Version: p.cfg.Version, Capture: p.data.capture.String(), Crashed: true}
	state.early.Settings = append(state.early.Settings, p.cfg.Service)
	for _, l := range p.serving {
		carried := carriedListener{Port: Port{Key: l.key}}
		for _, s := range l.sockets {
			if files := s.kept(); len(files) > 0 {
				carried.Sockets = append(carried.Sockets, s.carryKept(files))
			}
		}
		if len(carried.Sockets) > 0 {
			state.early.Listeners = append(state.early.Listeners, carried)
		}
	}
	return state.encode()
}

func (s *socket) carryKept(files []KeptFile) carriedSocket {
	c := carriedSocket{Addr: s.addr, Set: s.set, Frontend: s.frontend, Listens: true}
	if s.packet == nil {
		c.Cookie = files[0].Cookie
		return c
	}
	c.Packets = &carriedPacket{State: udp.SocketState{Addr: s.addr}}
	for i, f := range files {
		c.Packets.Files = append(c.Packets.Files, f.Cookie)
		if i > 0 {
			c.Packets.State.Readers = append(c.Packets.State.Readers, udp.ReaderState{FD: i})
		}
	}
	return c
}

// sort closes, after a crash, what there is no whole socket of: it had just come or gone.
func (h *Inheritance) sort() {
	named := map[uint64]bool{}
	var broken []heirloom
	for name, s := range h.sockets {
		if files := s.files(); h.has(files) {
			for _, cookie := range files {
				named[cookie] = true
			}
		} else {
			broken = append(broken, name)
		}
	}
	for _, name := range broken {
		delete(h.sockets, name)
	}
	h.files.CloseAllBut(named)
}

func (h *Inheritance) has(files []uint64) bool {
	for _, cookie := range files {
		if !h.files.Has(cookie) {
			return false
		}
	}
	return true
}

// files are the cookies of a socket.
func (s *carriedSocket) files() []uint64 {
	if s.Packets != nil {
		return s.Packets.Files
	}
	return []uint64{s.Cookie}
}
