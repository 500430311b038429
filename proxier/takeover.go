package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/handover"
)

// TakeOverTime is how long another process may take in all to take over. It is less than
// minReadySeconds of the DaemonSet: until then the old process answers the probes of the new one.
const TakeOverTime = 9 * time.Second

// giveTime is how long the process that serves may be busy with a pass before.
const giveTime = 2 * time.Second

// exchanges are what other processes of usher do at the admin socket.
func (p *Proxier) exchanges() map[string]admin.Exchange {
	return map[string]admin.Exchange{
		"/v1/take-over": {Parameters: []string{"node", "network"}, Run: p.give},
	}
}

// HandedOver is who has taken over from this process, empty if nobody has. It is for when
// Run has returned.
func (p *Proxier) HandedOver() string { return p.heldBy }

// give is the request of another process to go on in the place of this one.
func (p *Proxier) give(_ context.Context, q url.Values, begin func() (*net.UnixConn, error)) error {
	if err := p.sameNode(q); err != nil {
		return err
	}
	if !p.upgrades.one.TryLock() {
		return conflict(errUpgrading)
	}
	defer p.upgrades.one.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), giveTime)
	defer cancel()
	trial, err := p.trial(ctx)
	if err != nil {
		return err
	}
	conn, err := begin()
	if err != nil {
		return err
	}
	step, who := stepTrial, "another process"
	if n := admin.Process(conn); n > 0 {
		who = fmt.Sprintf("process %d", n)
	}
	p.cfg.Log.Infof("handover: %s wants to take over", who)
	err = handover.Give(conn, trial, func(early, carry func(handover.Parcel) error) error {
		step = stepRest
		ctx, cancel := context.WithTimeout(context.Background(), giveTime)
		defer cancel()
		return p.handOver(ctx, who, carrier{carry: carry, early: early})
	})
	if err != nil {
		p.upgradeFailed(step, err)
	}
	return nil // it was told
}

// sameNode refuses a process to which the sockets and rules that are there mean nothing.
func (p *Proxier) sameNode(q url.Values) error {
	if name := q.Get("node"); name != p.cfg.NodeName {
		return conflict(fmt.Errorf("the node that is served is %q, not %q: give --node-name=%[1]s", p.cfg.NodeName, name))
	}
	network, err := networkNamespace()
	if err == nil && network != q.Get("network") {
		err = fmt.Errorf("it serves another network namespace (%s, not %s): a Pod needs hostNetwork", network, q.Get("network"))
	}
	if err != nil {
		return conflict(err)
	}
	return nil
}

func conflict(err error) error {
	return &admin.Error{Status: http.StatusConflict, Message: err.Error()}
}

// networkNamespace names that of this process (namespaces(7)).
func networkNamespace() (string, error) { return os.Readlink("/proc/self/ns/net") }

// TakeOver takes over what the usher at cfg.AdminSocket serves, into cfg.Inherited. Before it
// asks, it finds out whether this process can go on with it. After an error that one goes on.
// ctx needs a deadline, TakeOverTime.
func TakeOver(ctx context.Context, cfg *Config) error {
	var old admin.Status
	err := admin.Get(ctx, cfg.AdminSocket, "/v1/status", nil, &old)
	if err != nil {
		return err
	}
	if err = cfg.prove(ctx, &old); err == nil {
		cfg.Inherited, err = cfg.take(ctx)
	}
	if err != nil {
		return fmt.Errorf("from usher %s: %w", old.Version, err)
	}
	return nil
}

func (cfg *Config) take(ctx context.Context) (*Inheritance, error) {
	network, err := networkNamespace()
	if err != nil {
		return nil, err
	}
	conn, err := admin.Begin(ctx, cfg.AdminSocket, "/v1/take-over", url.Values{"node": {cfg.NodeName}, "network": {network}})
	if answer := (*admin.Error)(nil); errors.As(err, &answer) && answer.Status == http.StatusNotFound {
		err = errors.New("it is too old to be taken over from: stop it first")
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var h *Inheritance
	var early *earlyParcel
	all := func(p handover.Parcel) (err error) {
		if h, err = Inherit(p, cfg); err != nil {
			return err
		}
		if early != nil {
			h.add(early)
		}
		return h.Check()
	}
	trial := func(p handover.Parcel) error {
		err := all(p)
		h.Close()
		return err
	}
	first := func(p handover.Parcel) (err error) {
		early, err = readEarly(p)
		return err
	}
	if err = handover.Take(conn, trial, first, all); err != nil {
		h.Close()
		early.Close()
		return nil, err
	}
	return h, nil
}

// prove finds out whether this process can do what the capture of the old one needs, which is
// nothing with bind: its sockets and routes are there. Programs that wait for others may take
// longer than there is time.
func (cfg *Config) prove(ctx context.Context, old *admin.Status) error {
	if err := cfg.checkPolicies(); err != nil || old.Capture == "bind" {
		return err
	}
	if old.Capture != "iptables" {
		return fmt.Errorf("this is no usher that can be taken over from: its capture is %q", old.Capture)
	}
	if err := checkMark(cfg.Mark); err != nil {
		return err
	}
	wait := findTables(nil)
	cfg.tables = wait
	all := make(chan map[Family]foundTable, 1)
	go func() { all <- wait() }()
	select {
	case found := <-all:
		for family, f := range found {
			if f.err != nil && slices.Contains(old.Families, family.String()) {
				return f.err
			}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it takes too long to find out whether capture=%s can be used: %w", old.Capture, ctx.Err())
	}
}
