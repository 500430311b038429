package proxier

import (
	"encoding/json"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/instant"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/udp"
	"github.com/usher-proxy/usher/proxier/wire"
)

// begin begins the state, with what stays as it is while connections come to rest.
func (l *handingOver) begin() error {
	l.state = handedOver{
		Format: handoverFormat, Version: l.cfg.Version, Times: l.times + 1, Began: instant.Of(l.started),
		Ready: l.isReady(), Capture: l.data.capture.String(), Families: l.data.capture.families(), Denied: map[Family]carriedSocket{}, Servers: map[string]uint64{},
	}
	l.settings, l.numbers = map[*annotation.Settings]int{}, map[*listener]int{}
	if l.cfg.Keeper != nil {
		l.state.Kept = l.cfg.Keeper.Has()
	}
	return errors.Join(l.packListeners(), l.packDenied(), l.packServers())
}

// post puts what was packed so far where the next process finds it: later, others would wait
// for that.
func (l *handingOver) post() error {
	err := l.state.encodeEarly()
	if err != nil {
		return err
	}
	var w wire.Writer
	l.state.last.append(&w)
	early := handover.Parcel{State: w.B, Files: append(l.state.last.files, l.files...)}
	l.files, l.state.last = nil, carriedConnections{}
	if l.by.early != nil {
		return l.by.early(early)
	}
	if l.early, err = handover.Post(early); err == nil {
		l.state.Early, err = l.file(l.early)
	}
	return err
}

func (l *handingOver) closeEarly() {
	if l.early >= 0 {
		unix.Close(l.early)
	}
}

// pack makes a parcel of everything that rests.
func (l *handingOver) pack() (handover.Parcel, error) {
	l.state.Numbering = l.data.observer.Numbering()
	l.packConnections()
	err := l.packLate()
	if l.nodeObject != nil {
		var fault error
		l.state.Node, fault = json.Marshal(l.nodeObject)
		err = errors.Join(err, fault)
	}
	for _, c := range l.asksFor {
		l.state.Checks = append(l.state.Checks, carriedCheck{c.namespace, c.name, c.port, c.local})
	}
	for _, o := range l.overrides {
		l.state.Overrides = append(l.state.Overrides, carriedOverride{
			Addr: o.addr, Port: o.port, Pod: o.pod, Namespace: o.service.namespace, Service: o.service.name,
			UID: o.uid, Since: o.since, Tenant: o.tenant,
		})
	}
	if err != nil {
		return handover.Parcel{}, err
	}
	state, err := l.state.encode()
	return handover.Parcel{State: state, Files: append(l.state.last.files, l.files...)}, err
}

// file adds a file, and returns its cookie.
func (l *handingOver) file(fd int) (uint64, error) {
	cookie, err := handover.Cookie(fd)
	if err == nil && !l.trial {
		l.files = append(l.files, fd)
	}
	return cookie, err
}

// packListeners packs what stays as it is of those that serve.
func (l *handingOver) packListeners() (err error) {
	early := &l.state.early
	for _, from := range l.serving {
		l.numbers[from] = len(early.Listeners)
		carried := l.carry(from, &early.Settings)
		for _, s := range from.sockets {
			if s.stream == nil {
				continue
			}
			one, fault := l.carryStream(s)
			err = errors.Join(err, fault)
			carried.Sockets = append(carried.Sockets, one)
		}
		early.Listeners = append(early.Listeners, carried)
	}
	return err
}

// packLate packs the rest, when that does not change any more.
func (l *handingOver) packLate() (err error) {
	told := map[*sharedPort]bool{}
	for number, from := range l.serving {
		late := carriedLate{Listener: number, Health: from.health.State()}
		if !told[from.shared] {
			told[from.shared] = true
			late.Affinity, late.Limits = from.shared.state()
		}
		for _, s := range from.sockets {
			if s.packet == nil {
				continue
			}
			one, fault := l.carryPacket(s)
			err = errors.Join(err, fault)
			late.Sockets = append(late.Sockets, one)
		}
		if len(late.Health)+len(late.Affinity)+len(late.Sockets) > 0 || late.Limits != (limit.State{}) {
			l.state.Late = append(l.state.Late, late)
		}
	}
	for _, from := range l.leaving {
		l.state.Leaving = append(l.state.Leaving, l.carry(from, &l.state.Settings))
	}
	return err
}

// number is that of a listener, which may only have connections.
func (l *handingOver) number(of *listener) int {
	n, known := l.numbers[of]
	if !known {
		n = len(l.numbers)
		l.numbers[of] = n
		l.leaving = append(l.leaving, of)
	}
	return n
}

// carry is a listener without its sockets. Settings that are new are added to a list.
func (l *handingOver) carry(from *listener, list *[]annotation.Settings) carriedListener {
	port := from.current.Load().port
	number, known := l.settings[port.Settings]
	if !known {
		number = len(l.settings)
		l.settings[port.Settings] = number
		*list = append(*list, *port.Settings)
	}
	c := carriedListener{Port: *port, Settings: number}
	c.Port.Settings = nil
	return c
}

func (l *handingOver) carryStream(s *socket) (c carriedSocket, err error) {
	c = carriedSocket{Addr: s.addr, Set: s.set, Frontend: s.frontend, Listens: s.stream.now.listen}
	c.Cookie, err = l.file(s.stream.fd)
	return c, err
}

func (l *handingOver) carryPacket(s *socket) (c carriedSocket, err error) {
	c = carriedSocket{Addr: s.addr, Set: s.set, Frontend: s.frontend}
	if !l.trial {
		c.Packets, err = l.carryPackets(l.packets[s])
	}
	return c, err
}

// carryPackets replaces files by their numbers in Files, and routes by plain ones.
func (l *handingOver) carryPackets(s udp.SocketState) (*carriedPacket, error) {
	c := &carriedPacket{}
	var errs []error
	number := func(fd *int) {
		if *fd < 0 {
			return
		}
		cookie, err := l.file(*fd)
		errs = append(errs, err)
		*fd, c.Files = len(c.Files), append(c.Files, cookie)
	}
	s.Readers, s.Sessions = slices.Clone(s.Readers), slices.Clone(s.Sessions) // they may have to go on here
	number(&s.FD)
	for i := range s.Readers {
		number(&s.Readers[i].FD)
	}
	for i := range s.Sessions {
		one := &s.Sessions[i]
		number(&one.FD)
		of := one.Route.Of.(*packetRoute)
		c.Sessions = append(c.Sessions, carriedRoute{
			Endpoint: of.pick.Endpoint, Affinity: of.pick.Affinity, Frontend: of.frontend, VIP: of.vip, Client: string(of.client),
			Set: of.set, Eligible: of.eligible, Known: of.known, Terminating: of.terminating, SourceWhy: of.sourceWhy,
		})
		one.Route.Of, one.Route.Unused = nil, nil
	}
	c.State = s
	return c, errors.Join(errs...)
}

func (l *handingOver) packDenied() (err error) {
	l.redirectDenied(func(s *streamSocket) {
		cookie, fault := l.file(s.fd)
		err = errors.Join(err, fault)
		l.state.Denied[familyOf(s.addr.Addr())] = carriedSocket{Addr: s.addr, Cookie: cookie, Listens: true}
	})
	return err
}

// packServers adds what is served beside Services.
func (l *handingOver) packServers() (err error) {
	for what, fd := range l.servers.files() {
		cookie, fault := l.file(fd)
		err = errors.Join(err, fault)
		l.state.Servers[what] = cookie
	}
	return err
}

// packConnections packs those that have come to rest since it was called last.
func (l *handingOver) packConnections() {
	if l.trial {
		return
	}
	all := l.departure.arrivals()
	some := make([]carriedConnection, 0, len(all)-l.packed)
	for _, d := range all[l.packed:] {
		some = append(some, l.carryConnection(d))
	}
	l.packed = len(all)
	l.state.last.written = appendConnections(some)
}

func (l *handingOver) carryConnection(d *departed) carriedConnection {
	c, to := d.connection, &l.state.last
	one := carriedConnection{
		Listener: l.number(c.listener), Client: to.place(d.client.FD()), Relay: to.placePipes(d.state), Record: c.record.Carry(), Attempt: c.use.began,
		KeepSource: c.keepSource, Hedged: c.hedged, Noted: c.noted, Settled: c.settled,
		Admitted: c.visit != (limit.Visit{}), Wait: c.visit.Left(),
	}
	if d.backend != nil {
		one.Backend = to.place(d.backend.FD())
	}
	return one
}
