package proxier

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

var killParameters = []string{"id", "backend", "pod", "client", "service", "namespace", "older", "all", "dry-run"}

const (
	// killTime is how long it is waited for connections to end. They do at once, but for
	// those in the hands of a busy poller.
	killTime = 5 * time.Second
	killLook = 2 * time.Millisecond
	// maxKilledTold is how many connections are told one by one.
	maxKilledTold = 1000
)

// victims say which connections are to be ended.
type victims struct {
	ids     []string
	backend target         // by address and port, or by pod
	filter  observe.Filter // of clients and Services
	older   time.Duration
	all     bool
	dryRun  bool
}

func victimsOf(q url.Values) (v victims, err error) {
	if v.filter, err = filterIn(q, time.Time{}); err != nil {
		return v, err
	}
	v.filter.Pod = "" // only the one that it is connected to counts
	v.ids = q["id"]
	for name, into := range map[string]*bool{"all": &v.all, "dry-run": &v.dryRun} {
		switch q.Get(name) {
		case "true":
			*into = true
		case "", "false":
		default:
			return v, badRequest("%s=%q: want true or false", name, q.Get(name))
		}
	}
	if text := q.Get("backend"); text != "" {
		if at, err := netip.ParseAddrPort(text); err == nil && at.Port() != 0 {
			v.backend.addr, v.backend.port = at.Addr().Unmap(), at.Port()
		} else if v.backend.addr, err = netip.ParseAddr(text); err != nil {
			return v, badRequest("backend=%q: want IP:PORT or IP", text)
		}
		v.backend.addr = v.backend.addr.Unmap()
	}
	if v.backend.pod = q.Get("pod"); v.backend.pod != "" && !isPodName(v.backend.pod) {
		return v, badRequest("pod=%q: want NAMESPACE/NAME", v.backend.pod)
	}
	if text := q.Get("client"); strings.Contains(text, "%") { // of which zone a client is nobody knows
		return v, badRequest("client=%q: want an address or a CIDR", text)
	}
	if text := q.Get("older"); text != "" {
		if v.older, err = time.ParseDuration(text); err != nil || v.older <= 0 {
			return v, badRequest("older=%q: want a duration, as in 1h", text)
		}
	}
	some := len(v.ids) > 0 || v.backend != (target{}) || v.filter.Client.IsValid() || v.filter.Namespace != "" || v.filter.Service != "" || v.older > 0
	switch {
	case !some && !v.all:
		return v, badRequest("want id, backend, pod, client, service, namespace or older; to end all connections say all=true")
	case some && v.all:
		return v, badRequest("all=true goes with nothing that chooses")
	}
	return v, nil
}

// are says whether a connection is one of them.
func (v *victims) are(c *connection, now time.Time) bool {
	r := c.record
	if len(v.ids) > 0 && !slices.Contains(v.ids, r.ID()) ||
		!v.filter.WantsLive(r.ServicePort, r.Client.Addr()) ||
		v.older > 0 && now.Sub(r.Start) < v.older {
		return false
	}
	if v.backend == (target{}) {
		return true
	}
	to := c.backend()
	return to.Addr.IsValid() && v.backend.concerns(serviceName{}, to.Addr, to.Pod)
}

// told is what is known of a connection while it lives.
func (c *connection) told(now time.Time) admin.KilledConnection {
	to := c.backend()
	k := admin.KilledConnection{
		ID: c.record.ID(), Namespace: c.key.Namespace, Service: c.key.Name, PortName: c.key.Port,
		Client: c.record.Client.String(), Pod: to.Pod, AgeSeconds: now.Sub(c.record.Start).Seconds(),
	}
	if to.Addr.IsValid() {
		k.Endpoint = to.Addr.String()
	}
	return k
}

// isLive says whether one has not ended yet. Its record is complete when it has.
func (c *connections) isLive(one *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, live := c.live[one.listener][one]
	return live
}

// killConnections ends connections with resets to both sides, and tells which of them it
// was that ended them.
func (p *Proxier) killConnections(ctx context.Context, q url.Values) (any, error) {
	v, err := victimsOf(q)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var found []*connection
	for _, c := range p.data.connections.all() {
		if v.are(c, now) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *connection) int {
		return cmp.Or(a.record.Start.Compare(b.record.Start), cmp.Compare(a.record.ID(), b.record.ID()))
	})
	k := killing{Killed: admin.Killed{DryRun: v.dryRun, Killed: []admin.KilledConnection{}, Gone: []admin.KilledConnection{}, Ending: []admin.KilledConnection{}}}
	told := make([]admin.KilledConnection, len(found))
	for i, c := range found {
		told[i] = c.told(now)
	}
	if !v.dryRun {
		for _, c := range found {
			c.abort(observe.AdminKilled)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for i, c := range found {
		switch {
		case v.dryRun:
			k.add(&k.Killed.Killed, told[i])
		case !p.ended(ctx, c):
			k.add(&k.Ending, told[i])
		case c.record.Reason != observe.AdminKilled:
			told[i].Reason = string(c.record.Reason)
			k.add(&k.Gone, told[i])
		default:
			k.add(&k.Killed.Killed, told[i])
		}
	}
	for _, id := range v.ids {
		if !slices.ContainsFunc(found, func(c *connection) bool { return c.record.ID() == id }) {
			k.add(&k.Gone, admin.KilledConnection{ID: id})
		}
	}
	if uid, _ := admin.Caller(ctx); !v.dryRun && len(found) > 0 {
		p.cfg.Log.Warnf("uid %d has ended %d connections (%s)", uid, len(found), q.Encode())
	}
	return k.Killed, nil
}

// killing is an answer that is being made.
type killing struct{ admin.Killed }

func (k *killing) add(to *[]admin.KilledConnection, one admin.KilledConnection) {
	if len(k.Killed.Killed)+len(k.Gone)+len(k.Ending) >= maxKilledTold {
		k.More++
		return
	}
	*to = append(*to, one)
}

// ended waits until a connection is over; false if that takes too long.
func (p *Proxier) ended(ctx context.Context, c *connection) bool {
	look := time.NewTicker(killLook)
	defer look.Stop()
	for p.data.connections.isLive(c) {
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
