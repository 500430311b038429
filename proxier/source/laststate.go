package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/usher-proxy/usher/proxier/source/laststate"
)

// keeperTimes are how patient a keeper is.
type keeperTimes struct {
	// At the start the file is used when the API server has been silent for this long, or
	// at the latest after patience if it talks but does not tell all there is.
	silence, patience time.Duration

	// The file follows changes within interval. If there are none it is still written every
	// refresh, to say that it is as good as new.
	interval, refresh time.Duration
}

var defaultKeeperTimes = keeperTimes{3 * time.Second, 30 * time.Second, 30 * time.Second, 10 * time.Minute}

// LastState is how the file with the last state is.
type LastState struct {
	File    string
	Served  bool      // what is served comes from the file
	AsOf    time.Time // of what is in the file, the zero time if it is neither read nor written yet
	Bytes   int64     // of the file as it was written last
	Failing string    // why it could not be read or written, "" if it could
}

// keeper keeps the last state of an API in a file, and serves it at a start while the API
// server is away.
type keeper struct {
	keeperTimes
	api    *API
	log    logrus.FieldLogger
	owner  laststate.Owner
	maxAge time.Duration // 0: any

	served atomic.Pointer[laststate.State] // from the file; it stays for its Node
	kept   laststate.State                 // in the file; it belongs to run

	mu    sync.Mutex
	state LastState
}

func newKeeper(a *API, c Config) *keeper {
	return &keeper{
		keeperTimes: defaultKeeperTimes, api: a, log: c.Log, maxAge: c.LastStateMaxAge, state: LastState{File: c.LastState},
		owner: laststate.Owner{Cluster: clusterOf(c.REST), Node: c.NodeName, ProxyName: c.ServiceProxyName},
	}
}

// clusterOf tells clusters apart without asking any: by the CA that signs for the API
// server, which may have several addresses, or by the address if there is no CA.
func clusterOf(config *rest.Config) string {
	ca := config.CAData
	if len(ca) == 0 && config.CAFile != "" {
		ca, _ = os.ReadFile(config.CAFile) // if it cannot be read, nothing can be asked either
	}
	if len(ca) == 0 {
		return apiAddress(config)
	}
	sum := sha256.Sum256(ca)
	return "CA " + hex.EncodeToString(sum[:16])
}

// run serves the file if need be, and keeps it up to date once all is known.
func (k *keeper) run(ctx context.Context) {
	if !k.awaitLists(ctx) {
		k.serve()
	}
	select {
	case <-ctx.Done():
	case <-k.api.complete:
	}
	again := time.NewTicker(k.interval)
	defer again.Stop()
	for ctx.Err() == nil {
		k.keep(k.refresh)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
	if k.api.isComplete() {
		k.keep(k.interval) // the next start should find what this one knew
	}
}

// awaitLists waits until the API server has told all there is, and returns false if that is
// waited for in vain.
func (k *keeper) awaitLists(ctx context.Context) bool {
	began := time.Now()
	look := time.NewTicker(k.silence / 30)
	defer look.Stop()
	for !k.api.listed() {
		heard := began
		for _, w := range k.api.Watches()[:2] { // without the Node, which nothing waits for
			if w.LastContact.After(heard) {
				heard = w.LastContact
			}
		}
		if time.Since(heard) > k.silence || time.Since(began) > k.patience {
			return false
		}
		select {
		case <-ctx.Done():
			return true
		case <-look.C:
		}
	}
	return true
}

// serve makes the file the state of the API.
func (k *keeper) serve() {
	s, err := k.read()
	if errors.Is(err, fs.ErrNotExist) {
		k.log.Warnf("the API server %s does not tell what to serve, and there is no last state in %s yet: waiting", k.api.address(), k.state.File)
		return
	}
	k.note(func(now *LastState) { now.AsOf, now.Failing = s.AsOf, message(err) })
	if err != nil {
		k.log.Warnf("the API server %s does not tell what to serve, and the last state cannot be used: %v; waiting", k.api.address(), err)
		return
	}
	k.served.Store(&s)
	k.log.Warnf("the API server %s does not tell what to serve: serving the last state of %s, %s ago, from %s (%d Services, %d EndpointSlices)",
		k.api.address(), s.AsOf.Format(time.RFC3339), ageOf(s), k.state.File, len(s.Services), len(s.Slices))
	k.api.changed.send()
}

func (k *keeper) read() (laststate.State, error) {
	s, err := laststate.Read(k.state.File, k.owner)
	if err != nil {
		return laststate.State{}, err
	}
	if k.maxAge > 0 && time.Since(s.AsOf) > k.maxAge {
		return laststate.State{}, fmt.Errorf("%s: it is of %s, %s ago, and --last-state-max-age is %s", k.state.File, s.AsOf.Format(time.RFC3339), ageOf(s), k.maxAge)
	}
	for _, o := range s.Services {
		_, _ = strip(o) // what is equal takes memory once
	}
	for _, o := range s.Slices {
		_, _ = strip(o)
	}
	return s, nil
}

// ageOf is not negative: a clock that is behind says nothing of the state.
func ageOf(s laststate.State) time.Duration { return max(0, time.Since(s.AsOf).Round(time.Second)) }

// objects are those of the file, if they are served.
func (k *keeper) objects() (Objects, bool) {
	if k == nil {
		return Objects{}, false
	}
	s := k.served.Load()
	if s == nil {
		return Objects{}, false
	}
	return Objects{Services: s.Services, Slices: s.Slices, Node: s.Node}, true
}

// replaced is what to tell of the file when the API server has told all there is.
func (k *keeper) replaced() string {
	if k == nil || k.served.Load() == nil {
		return ""
	}
	return fmt.Sprintf("; they replace the last state of %s", k.served.Load().AsOf.Format(time.RFC3339))
}

// keep writes the file if what is in it is no longer so, or was so longer ago than refresh.
func (k *keeper) keep(refresh time.Duration) {
	now := k.now()
	if sameState(now, k.kept) && now.AsOf.Sub(k.kept.AsOf) < refresh {
		return
	}
	size, err := laststate.Write(k.state.File, k.owner, now)
	var before string
	k.note(func(s *LastState) {
		before, s.Failing = s.Failing, message(err)
		if err == nil {
			s.AsOf, s.Bytes = now.AsOf, size
		}
	})
	switch {
	case err == nil:
		k.kept = now
		if before != "" {
			k.log.Infof("can keep the last state in %s again", k.state.File)
		}
	case message(err) != before:
		k.log.Warnf("cannot keep the last state: %v; a start while the API server is away finds an older one or none", err)
	}
}

// now is what the API server has told.
func (k *keeper) now() laststate.State {
	s := laststate.State{Services: k.api.services.objects(), Slices: k.api.slices.objects(), Node: k.api.ownNode()}
	s.AsOf = k.api.contact.services.last.time()
	if slices := k.api.contact.slices.last.time(); slices.Before(s.AsOf) {
		s.AsOf = slices
	}
	return s
}

func sameState(a, b laststate.State) bool {
	return sameList(a.Services, b.Services) && sameList(a.Slices, b.Slices) &&
		(a.Node == b.Node || a.Node != nil && b.Node != nil && sameNode(a.Node, b.Node))
}

// sameList says whether two lists are one and the same.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (k *keeper) note(change func(*LastState)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.state)
}

// node is that of the file, for as long as the API server does not tell it.
func (k *keeper) node() *corev1.Node {
	if k == nil {
		return nil
	}
	if s := k.served.Load(); s != nil {
		return s.Node
	}
	return nil
}

// LastState returns how the file with the last state is, and false if none is kept.
func (a *API) LastState() (LastState, bool) {
	if a.keeper == nil {
		return LastState{}, false
	}
	a.keeper.mu.Lock()
	defer a.keeper.mu.Unlock()
	now := a.keeper.state
	now.Served = a.keeper.served.Load() != nil && !a.isComplete()
	return now, true
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
