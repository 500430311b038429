package source

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// nodePatience is how long the own Node is waited for once the Services and
// EndpointSlices are there. They can be served without it.
const nodePatience = 5 * time.Second

// Config is what NewAPI needs.
type Config struct {
	REST     *rest.Config // from RESTConfig; it is copied
	NodeName string       // of the own Node; "" if there is none
	// ServiceProxyName chooses the Services whose label
	// service.kubernetes.io/service-proxy-name says so; "" those without it.
	ServiceProxyName string
	// LastState is the file with the last state, "" for none. One that is older than
	// LastStateMaxAge is not used; 0 is any age.
	LastState       string
	LastStateMaxAge time.Duration
	Log             logrus.FieldLogger
}

// API is the Source that lists and watches an API server. All methods may be
// called by several goroutines at once.
type API struct {
	log     logrus.FieldLogger
	rest    *rest.Config
	http    *http.Client
	contact contact
	outages *outages
	events  *events
	changed signal

	services cached[*corev1.Service]
	slices   cached[*discoveryv1.EndpointSlice]
	node     cache.SharedIndexInformer // nil without a node name

	nodeRefused chan struct{} // has a value if the Node may not be read
	complete    chan struct{} // closed when all is known
	keeper      *keeper       // nil without a file
}

var _ Source = (*API)(nil)

// NewAPI returns a source that is empty until Run. An API server that cannot
// be reached is no error: Run waits for it.
func NewAPI(c Config) (*API, error) {
	ours := servicesOf(c.ServiceProxyName)
	routeKlog(c.Log)
	a := &API{log: c.Log, changed: newSignal(), nodeRefused: make(chan struct{}, 1), complete: make(chan struct{})}
	a.rest = a.clientConfig(c.REST)
	a.outages = newOutages(c.Log, apiAddress(a.rest))
	core, discovery, err := a.connect()
	if err != nil {
		return nil, fmt.Errorf("client of the API server %s: %w", apiAddress(a.rest), err)
	}
	a.services.informer = a.informer(&corev1.Service{}, resource{
		name: servicesResource, client: core, heard: &a.contact.services, labels: ours.services.String(), fields: notHeadless().String(),
	}, nil, a.services.changed)
	a.slices.informer = a.informer(&discoveryv1.EndpointSlice{}, resource{
		name: slicesResource, client: discovery, heard: &a.contact.slices, labels: ours.slices.String(),
	}, nil, a.slices.changed)
	if c.NodeName != "" {
		own := fields.OneTermEqualSelector(metav1.ObjectNameField, c.NodeName)
		a.node = a.informer(&corev1.Node{}, resource{name: nodesResource, client: core, heard: &a.contact.nodes, fields: own.String()}, a.nodeWasRefused, func() {})
	}
	a.events = newEvents(core, c.NodeName, a.uidOf, c.Log)
	if c.LastState != "" {
		a.keeper = newKeeper(a, c)
	}
	return a, nil
}

// clientConfig completes a copy of what the user configured.
func (a *API) clientConfig(given *rest.Config) *rest.Config {
	config := rest.CopyConfig(given)
	config.UserAgent = "usher"
	if config.ContentType == "" {
		config.ContentType = runtime.ContentTypeProtobuf
	}
	config.AcceptContentTypes = config.ContentType + "," + runtime.ContentTypeJSON
	if config.QPS == 0 { // three watches and a few Events; client-go's 5 would hold back a burst of Events
		config.QPS, config.Burst = 20, 40
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return a.contact.wrap(next, func(verb, resource string, err error) { a.outages.failed(verb, resource, err) })
	})
	return config
}

// informer keeps objects of one kind up to date. touched is called after each change
// of its cache, also if that does not matter.
func (a *API) informer(example runtime.Object, r resource, onRefused, touched func()) cache.SharedIndexInformer {
	informer := cache.NewSharedIndexInformer(r.listWatch(a.outages, onRefused), example, 0, nil)
	// Neither can fail before the informer runs.
	_ = informer.SetTransform(strip)
	_ = informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}) // listWatch has told it
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) {
			touched()
			a.changed.send()
		},
		UpdateFunc: func(before, after any) {
			touched()
			if matters(before, after) {
				a.changed.send()
			}
		},
		// Also called with a cache.DeletedFinalStateUnknown, for an object that
		// went while the API server was away: it is out of the cache either way.
		DeleteFunc: func(any) {
			touched()
			a.changed.send()
		},
	})
	return informer
}

// nodeWasRefused lets the start go on without the Node.
func (a *API) nodeWasRefused() {
	select {
	case a.nodeRefused <- struct{}{}:
	default:
	}
}

// Run implements Source. It returns nil once ctx is done.
func (a *API) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, informer := range a.informers() {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	running.Go(func() { a.events.run(ctx) })
	running.Go(func() { a.awaitLists(ctx) })
	if a.keeper != nil {
		running.Go(func() { a.keeper.run(ctx) })
	}
	running.Wait()
	utilnet.CloseIdleConnectionsFor(a.http.Transport)
	return nil
}

func (a *API) informers() []cache.SharedIndexInformer {
	if a.node == nil {
		return []cache.SharedIndexInformer{a.services.informer, a.slices.informer}
	}
	return []cache.SharedIndexInformer{a.services.informer, a.slices.informer, a.node}
}

// awaitLists makes the state complete once it is.
func (a *API) awaitLists(ctx context.Context) {
	for _, informer := range []cache.SharedIndexInformer{a.services.informer, a.slices.informer} {
		select {
		case <-ctx.Done():
			return
		case <-informer.HasSyncedChecker().Done():
		}
	}
	if a.node != nil {
		a.awaitNode(ctx)
	}
	close(a.complete)
	a.changed.send()

	a.log.Infof("the API server %s has %d Services to serve, and %d EndpointSlices%s",
		a.address(), len(a.services.objects()), len(a.slices.objects()), a.keeper.replaced())
	if kubernetes, ok, _ := a.services.informer.GetStore().GetByKey("default/kubernetes"); ok {
		warnIfOwnService(a.rest, kubernetes.(*corev1.Service), a.log)
	}
	if a.keeper.node() != nil { // it goes if there is none any more, of which no event tells
		select {
		case <-ctx.Done():
		case <-a.node.HasSyncedChecker().Done():
			a.changed.send()
		}
	}
}

func (a *API) awaitNode(ctx context.Context) {
	patience := time.NewTimer(nodePatience)
	defer patience.Stop()
	without := "going on without the own Node: its zone (topology hints), addresses and pod CIDRs are unknown until "
	if a.keeper.node() != nil {
		without = "going on with the own Node of the last state until "
	}
	select {
	case <-ctx.Done():
	case <-a.node.HasSyncedChecker().Done():
		if len(a.node.GetStore().ListKeys()) == 0 {
			a.log.Warn(without + "an object of that name exists; see --node-name")
		}
	case <-a.nodeRefused:
		a.log.Warn(without + "usher's user may list and watch nodes")
	case <-patience.C:
		a.log.Warn(without + "it can be read")
	}
}

// Changed implements Source.
func (a *API) Changed() <-chan struct{} { return a.changed }

// Event implements Source.
func (a *API) Event(about Ref, reason, message string) { a.events.add(about, reason, message) }

// uidOf returns the UID of an object in the caches, without which "kubectl
// describe" does not find its events.
func (a *API) uidOf(about Ref) types.UID {
	var found any
	switch {
	case about.Kind == "Service":
		found, _, _ = a.services.informer.GetStore().GetByKey(about.Namespace + "/" + about.Name)
	case about.Kind == "EndpointSlice":
		found, _, _ = a.slices.informer.GetStore().GetByKey(about.Namespace + "/" + about.Name)
	case about.Kind == "Node" && a.node != nil:
		found, _, _ = a.node.GetStore().GetByKey(about.Name)
	}
	if object, ok := found.(metav1.Object); ok {
		return object.GetUID()
	}
	return ""
}
