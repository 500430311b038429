package proxier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// adopt has established connections go on, those in which bytes moved first.
func (p *Proxier) adopt(h *Inheritance) error {
	if err := p.adoptAll(h, &h.last); err != nil {
		return err
	}
	h.paused = time.Since(h.Rested.Time())
	if p.cfg.Capture == "iptables" && p.cfg.tables == nil {
		p.cfg.tables = findTables(h) // before there are many files, which each program has to close
	}
	h.lost = errors.Join(h.lost, h.openEarly())
	return p.adoptAll(h, h.others)
}

func (p *Proxier) adoptAll(h *Inheritance, of *carriedConnections) error {
	connections, err := h.connections(of)
	if err != nil {
		return err
	}
	all := h.all()
	var resume []func()
	for i := range connections {
		one := &connections[i]
		goOn, err := p.adoptConnection(h, &all[one.Listener].Port, one, of)
		if err != nil {
			h.lost = errors.Join(h.lost, fmt.Errorf("connection %d: %w", one.Record.Number, err))
		} else if goOn != nil {
			resume = append(resume, goOn)
		}
	}
	inParallel(p.cfg.Cores, resume, func(some []func()) {
		for _, goOn := range some {
			goOn()
		}
	})
	return nil
}

// inParallel calls f with a part of the list each, n at a time, and returns when all have.
func inParallel[T any](n int, list []T, f func(some []T)) {
	var working sync.WaitGroup
	for some := range slices.Chunk(list, max(1, (len(list)+n-1)/n)) {
		working.Go(func() { f(some) })
	}
	working.Wait()
}

// adoptConnection makes a connection of what was handed over, and returns what has it go on;
// nil: that has to wait for the capture.
func (p *Proxier) adoptConnection(h *Inheritance, port *Port, from *carriedConnection, files *carriedConnections) (goOn func(), err error) {
	fd, ok := files.take(from.Client)
	if !ok {
		return nil, errors.New("its client's socket was not handed over")
	}
	client, backend := tcp.New(fd, p.data.pollers.For(nil)), (*tcp.Conn)(nil)
	if from.Backend != 0 {
		if fd, ok = files.take(from.Backend); !ok {
			client.Reset()
			return nil, errors.New("its endpoint's socket was not handed over")
		}
		backend = tcp.New(fd, client.Poller())
	}
	if from.Relay != nil {
		if err = files.takePipes(from.Relay); err != nil {
			client.Reset()
			if backend != nil {
				backend.Reset()
			}
			return nil, err
		}
	}
	l := h.listeners[port.Key]
	if l == nil {
		l = newListener(p.data, port.Key, p.sharedPort(port))
		l.current.Store(&state{port: port, pickers: bySet[balancer.Picker]{nobody{}, nobody{}}})
		h.listeners[port.Key] = l
	}
	c := &connection{
		listener: l, client: client, record: l.observer.Resume(l.shared.metrics, &from.Record), settings: port.Settings,
		keepSource: from.KeepSource, hedged: from.Hedged, noted: from.Noted, settled: from.Settled, admitted: true,
	}
	l.active.Add(1)
	l.connections.add(c)
	if from.Admitted {
		c.visit = l.shared.gate.Restore(c.record.Client.Addr(), from.Wait)
	}
	h.resumed++
	if backend == nil {
		h.later = append(h.later, func() { go c.searchOn(from.Relay) })
		return nil, nil
	}
	late := &latePick{endpoint: c.record.Backend(), set: c.set(), answer: answerTime(c.record.Connect, from.Relay)}
	h.picks[l] = append(h.picks[l], late)
	c.use = use{leave: l.shared.gate.RestoreEndpoint(c.record.Backend().Addr), done: late.end, answered: late.answered, began: from.Attempt}
	goOn = func() { c.resume(client, backend, *from.Relay) }
	if from.Relay.Hold { // it may need another endpoint
		h.later = append(h.later, goOn)
		return nil, nil
	}
	return goOn, nil
}

// goOn serves what was handed over, before the first objects have come: the listeners accept
// again, and the kernel leads to them as it did. So it is ready, as it was.
func (p *Proxier) goOn(context.Context) error {
	h := p.data.inheritance.Load()
	if h.Crashed { // who waits is served when all objects have come
		p.cfg.Log.Infof("a usher has ended with no time to hand over: clients wait at %s that it had", counted(len(h.sockets), "socket"))
		return nil
	}
	p.nodeObject, p.overrides = h.node(), h.overrides()
	node := newNodeState(&p.cfg, p.node.addresses(), p.nodeObject, p.source.device)
	p.data.clients.Store(node.clients)
	change := p.prepare(p.captured(h.ports), node, false)
	for _, l := range h.listeners { // of no Port any more
		p.draining = append(p.draining, l)
	}
	for l, picks := range h.picks {
		for _, one := range picks {
			one.make(l)
		}
	}
	for _, start := range h.later {
		start()
	}
	p.own, p.sockets = p.data.capture.own(), countSockets(p.serving)
	p.data.connections.makeRoom(p.sockets)
	if h.Ready {
		p.health.Synced(p.written(nil)...)
		p.showEarly(h.ports, node, change.problems)
		p.setReady()
	}
	change.problems = append(change.problems, p.syncChecks(h.checks(), node)...)
	for _, problem := range change.problems {
		p.cfg.Log.Warnf("handover: %s", problem.Message)
	}
	log := p.cfg.Log.WithFields(logrus.Fields{
		"pause_ms": milliseconds(h.paused), "accepting_after_ms": milliseconds(time.Since(h.Rested.Time())),
	})
	if h.lost != nil {
		log.WithError(h.lost).Error("handover: some connections were lost")
	}
	log.Infof("handover: went on with %d connections and %d listeners of usher %s", h.resumed, len(p.serving), h.Version)
	return nil
}

// settleInheritance closes what nobody has taken, after the first complete pass.
func (p *Proxier) settleInheritance() {
	if h := p.data.inheritance.Swap(nil); h != nil {
		h.Close()
	}
}
