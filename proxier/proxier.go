package proxier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/health"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// Proxier makes the running listeners and the kernel match the objects of its
// source. Its loop, in Run, is the only one that changes either.
type Proxier struct {
	cfg      Config
	node     *addressWatch
	data     *dataPath
	records  *observe.Log
	recent   *observe.Ring
	observed *observe.Metrics
	metrics  *metrics
	kube     *kubeMetrics
	health   *health.Proxy
	checks   *health.Services
	source   *clientSource
	pollers  *tcp.Pollers
	flows    *staleFlows
	servers  servers
	upgrades upgrades
	reporter reporter

	captureWhy string
	planner    *planner
	ports      turnover[*Port]
	lastNode   *nodeState
	listeners  map[Key]*listener
	serving    []*listener       // without those that are gone, sorted; never changed, but replaced
	gone       map[Key]*listener // of no Port any more, but rules may still lead to them
	restless   map[*Port]*restless
	updated    []*listener     // since their rules have been written
	own        map[uint16]bool // ports that the capture listens on
	sockets    int             // that listen
	flowsTo    datagrams       // of the last pass
	stray      []Problem       // the same
	shared     map[ServicePort]*sharedPort
	overrides  overrides     // what somebody on this node has drained
	unused     []*socket     // of no use, but rules may still lead to them
	draining   []*listener   // closed, but with connections left
	woken      chan struct{} // receives when there is something to do that no object tells
	alarm      *time.Timer   // that wakes the loop, nil before the first one
	asked      chan func()   // what the loop is to do for others between two passes
	loopEnded  chan struct{} // closed when the loop does nothing any more
	sourceOpen chan struct{} // closed when cfg.Source is there
	drifted    bool          // somebody has changed what the capture has in the kernel
	rulesNow   admin.Rules   // as the last pass has left them
	problems   []Problem     // of the last pass
	ready      chan struct{} // closed after the first successful pass
	seen       atomic.Pointer[seen]
	tally      atomic.Pointer[tally]

	// For those who ask.
	left          bool          // another process has everything
	heldBy        string        // which one
	started       time.Time     // the first of the processes that have handed over to each other
	began         time.Time     // this one
	times         int           // how often they have
	asksFor       []healthCheck // of the last pass
	nodeObject    *corev1.Node  // of the last pass, nil if there is none
	foreign       atomic.Uint64 // writes of others that were mended
	told          toldBytes
	drops         dropping
	podsByAddress podIndex
}

// New checks that the configuration can work on this machine, and changes nothing yet: but
// what was handed over goes on from now on.
func New(ctx context.Context, cfg Config) (*Proxier, error) {
	if err := cfg.checkPolicies(); err != nil {
		return nil, err
	}
	if cfg.Cores == 0 {
		cfg.Cores = runtime.GOMAXPROCS(0)
	}
	node, err := newAddressWatch(cfg.Log)
	if err != nil {
		return nil, err
	}
	p := &Proxier{
		cfg: cfg, node: node, started: time.Now(), began: time.Now(),
		records:   observe.NewLog(cmp.Or(cfg.RecordLog, cfg.Log)),
		recent:    observe.NewRing(cmp.Or(cfg.RingSize, observe.DefaultRingSize)),
		planner:   newPlanner(),
		listeners: map[Key]*listener{},
		gone:      map[Key]*listener{},
		restless:  map[*Port]*restless{},
		shared:    map[ServicePort]*sharedPort{},
		woken:     make(chan struct{}, 1),
		asked:     make(chan func()),
		loopEnded: make(chan struct{}), sourceOpen: make(chan struct{}),
		ready: make(chan struct{}),
	}
	p.reporter = reporter{log: cfg.Log, event: p.event}
	if p.source, err = newClientSource(cfg.NodeName, cfg.ReturnMark); err != nil {
		return nil, err
	}
	if p.pollers, err = tcp.NewPollers(cfg.Cores); err != nil {
		p.source.paths.Close()
		return nil, err
	}
	p.records.LimitErrors(cfg.LogErrors)
	p.observed = observe.NewMetrics(cfg.Registry, p.records, p.recent)
	p.observed.Limit(cfg.MaxSeries)
	p.metrics = newMetrics(cfg.Registry)
	steps := []func(context.Context) error{p.openSource, p.equip}
	if cfg.Inherited != nil { // nobody is to wait for what is not needed yet
		steps = []func(context.Context) error{p.inherit, p.equip, p.goOn, p.openSource}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			p.pollers.Close()
			p.source.paths.Close()
			return nil, err
		}
	}
	return p, nil
}

func (p *Proxier) openSource(context.Context) (err error) {
	if p.cfg.OpenSource != nil {
		p.cfg.Source, err = p.cfg.OpenSource()
	}
	close(p.sourceOpen)
	return err
}

// inherit has the connections go on that another process has handed over.
func (p *Proxier) inherit(context.Context) error {
	h := p.cfg.Inherited
	p.cfg.Capture = h.Capture // that of the rules that are there
	if err := p.newDataPath(p.cfg.markFor(h.Capture)); err != nil {
		return err
	}
	p.data.inheritance.Store(h)
	if h.Crashed {
		return nil
	}
	if p.cfg.Keeper != nil {
		p.cfg.Keeper.Continue(h.Kept)
	}
	p.times, p.started = h.Times, h.Began.Time()
	p.data.observer.Continue(h.Numbering)
	return p.adopt(h)
}

// inheritance is what was handed over, nil if nothing was, or once all that is of use was taken.
func (p *Proxier) inheritance() *Inheritance {
	if p.data == nil {
		return nil
	}
	return p.data.inheritance.Load()
}

// equip makes what the reconcile loop works with.
func (p *Proxier) equip(ctx context.Context) error {
	capture, mark, err := p.chooseCapture(ctx, p.pollers)
	if err = cmp.Or(ctx.Err(), err); err == nil && p.data == nil {
		if err = p.besideKubeProxy(ctx, capture); err == nil {
			err = p.newDataPath(mark)
		}
	}
	if err != nil {
		return err
	}
	p.data.capture = capture
	families := capture.families()
	p.health = health.New(2*p.cfg.SyncPeriod, ipFamilies(families)...)
	p.checks = health.NewServices(p.health.Serving)
	p.checks.Listen = p.listenCheck
	p.kube = newKubeMetrics(p.cfg.Registry, capture.String() == "iptables", families...)
	p.flows = newStaleFlows(p.cfg.Log, p.kube, families)
	p.measureProcess()
	p.measureUpgrades()
	return nil
}

// event tells of an object, once there is a source.
func (p *Proxier) event(about source.Ref, reason, message string) {
	select {
	case <-p.sourceOpen:
		p.cfg.Source.Event(about, reason, message)
	default:
	}
}

// newDataPath makes what connections need, but for the capture.
func (p *Proxier) newDataPath(mark uint32) error {
	cfg := &p.cfg
	connections, packets, err := newPackets(cfg, int(mark))
	if err != nil {
		return err
	}
	p.data = &dataPath{
		log:          cfg.Log,
		observer:     observe.New(cfg.NodeName, p.records, p.observed, p.recent, cfg.OnRecord),
		newPolicy:    cfg.newPolicy,
		dialer:       dial.New(mark),
		source:       p.source,
		packets:      packets,
		connections:  connections,
		pollers:      p.pollers,
		clock:        relay.NewClock(),
		whole:        limit.NewWhole(connections.room),
		acceptErrors: &occasionally{interval: 10 * time.Second},
		notAccepted:  p.metrics.accept,
		event:        p.event,
		wake:         p.wake,
	}
	p.data.prober = outlier.NewProber(p.data.dialer.Plain)
	measureChecks(cfg.Registry, p.data.prober.Stats)
	p.data.dialer.Panicked = func(value any, stack []byte) {
		cfg.Log.Errorf("a search for an endpoint failed inside usher, please report this: %v\n%s", value, stack)
	}
	p.data.clients.Store(newClients(cfg.LocalPods, nil, p.node.addresses().all(), p.source.device))
	return nil
}

// Ready is closed when the first complete state is being served.
func (p *Proxier) Ready() <-chan struct{} { return p.ready }

// Stopping is closed when Run has begun to end, for whatever reason.
func (p *Proxier) Stopping() <-chan struct{} { return p.loopEnded }

// Run serves until ctx is done. Then it takes its rules away, lets connections
// end, and returns with nothing of it left running. It also returns once another process has
// taken over, and then leaves everything as it is (see HandedOver).
func (p *Proxier) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	failed := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	fail := func(err error) {
		select {
		case failed <- err:
		default: // one reason is enough
		}
		stop()
	}
	workers.Go(func() {
		if err := p.cfg.Source.Run(running); err != nil && running.Err() == nil {
			fail(err)
		}
	})
	workers.Go(func() { p.node.run(running) })
	asked, noMoreAsked := context.WithCancel(context.Background()) // also while stopping: to say so
	defer noMoreAsked()
	p.serveHTTP(asked, &workers, fail)
	stopWriting := p.write()

	p.loop(running)
	var err error
	if p.left {
		p.servers.leave()
	} else {
		err = p.shutdown()
	}
	stop()
	noMoreAsked()
	workers.Wait()
	stopWriting()
	select {
	case sourceErr := <-failed:
		return errors.Join(sourceErr, err)
	default:
		return err
	}
}

// lastRecords is how long whoever reads the log of records may take for what is left at
// the end: they may have stopped reading.
const lastRecords = 5 * time.Second

// write has records written until stop, which waits for those that are left.
func (p *Proxier) write() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.records.Run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(lastRecords):
		}
	}
}

// Recent holds the newest records of connections and UDP sessions that have ended.
func (p *Proxier) Recent() *observe.Ring { return p.recent }

// loop runs passes: at once after a quiet time, MinSyncPeriod apart in a burst
// or as long as one takes, and every SyncPeriod to mend what drifted, also under
// steady changes.
func (p *Proxier) loop(ctx context.Context) {
	timer, look := time.NewTimer(p.cfg.SyncPeriod), time.NewTicker(driftLook)
	heart := newHeartbeat(p.cfg.Heartbeat, p.cfg.HeartbeatEvery, passLimit)
	defer close(p.loopEnded)
	defer heart.stop()
	defer timer.Stop()
	defer look.Stop()
	verified, quiet := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-heart.C:
			heart.beat()
			continue
		case do := <-p.asked:
			if heart.during(do); p.left {
				return
			}
			continue
		case <-p.keepAgain():
			p.keep()
			continue
		case <-look.C:
			p.drifted = p.drifted || p.data.capture.changed()
			if !p.drifted || time.Now().Before(quiet) {
				continue
			}
			verified = time.Time{}
		case <-p.cfg.Source.Changed():
			p.kube.queued()
		case <-p.node.changed:
			p.source.paths.Forget()
			if !p.node.refresh() {
				continue
			}
		case <-p.woken:
		case <-timer.C:
			p.node.refresh()
			verified = time.Time{}
		}
		start := time.Now()
		verify := start.Sub(verified) >= p.cfg.SyncPeriod
		if verify {
			verified = start
		}
		heart.during(func() { timer.Reset(p.reconcile(ctx, verify)) })
		if verify && p.drifted {
			p.drifted = false
			p.metrics.foreign.Inc()
			p.foreign.Add(1)
			quiet = time.Now().Add(driftPause * time.Since(start))
		}
		if !heart.pause(ctx, max(p.cfg.MinSyncPeriod, time.Since(start))) { // at most half of the time goes into passes
			return
		}
	}
}

// Somebody else may write rules all the time, and to compare all of ours takes a
// while: a twentieth of the time at most goes into that. The first change after a
// quiet time is seen within driftLook.
const (
	driftLook  = 500 * time.Millisecond
	driftPause = 20
)

// shutdown leaves nothing behind: first nothing new is led here, then the sockets
// go, then the connections, and at last what these needed in the kernel.
func (p *Proxier) shutdown() error {
	p.wakeAfter(0)
	p.health.Stopping()
	p.checks.Close()
	p.data.prober.Close()
	var err error
	if !p.cfg.LeaveRules {
		err = bounded(p.data.capture.stop)
	}
	p.data.packets.Drain(context.Background(), lastReplies)
	for _, l := range p.listeners {
		l.close()
	}
	for _, s := range p.unused {
		s.close(observe.Shutdown)
	}
	p.data.packets.Close()
	p.flows.close(p.node.addresses().all())
	p.drain()
	p.data.dialer.Close()
	p.source.paths.Close()
	if p.cfg.LeaveRules {
		p.cfg.Log.Info("left the rules as they are (--leave-rules)")
	} else {
		err = errors.Join(err, bounded(p.data.capture.remove))
	}
	p.data.pollers.Close() // the capture has sockets, too
	p.data.clock.Close()
	if err != nil {
		return fmt.Errorf("remove the capture: %w (run usher cleanup)", err)
	}
	return nil
}

func (p *Proxier) drain() {
	if n := p.data.connections.count(); n > 0 {
		p.cfg.Log.Infof("waiting up to %s for %d connections to end", p.cfg.DrainTimeout, n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.DrainTimeout)
	defer cancel()
	if n := p.data.connections.drain(ctx); n > 0 {
		p.cfg.Log.Warnf("ended %d connections that were still open", n)
	}
}

// bounded gives a step of the shutdown as much time as it may take at most.
func bounded(step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return step(ctx)
}

// wake has the loop make a pass soon. It never blocks.
func (p *Proxier) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// wakeAfter has the loop make a pass after a time; 0: none. It belongs to the loop.
func (p *Proxier) wakeAfter(d time.Duration) {
	if p.alarm != nil {
		p.alarm.Stop()
	}
	if d > 0 {
		p.alarm = time.AfterFunc(d, p.wake)
	}
}

func (p *Proxier) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

func (p *Proxier) setReady() {
	if !p.isReady() {
		close(p.ready)
	}
}
