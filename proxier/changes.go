package proxier

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/proxier/source"
)

// changes compares the objects of each pass with those of the pass before. It
// belongs to the reconcile loop.
type changes struct {
	start    time.Time
	services known[*corev1.Service]
	slices   known[*discoveryv1.EndpointSlice]
	triggers map[objectName]*triggers // of slices that are not applied yet
}

type objectName struct{ namespace, name string }

// triggers are when Pods or a Service changed in ways that made the endpoint
// controller change a slice.
type triggers struct {
	family Family
	times  []time.Time
}

// maxTriggers bounds what is remembered of one slice while it cannot be applied.
const maxTriggers = 100

// newChanges returns changes that ignore triggers before start: how long they
// have waited says nothing about this process.
func newChanges(start time.Time) *changes {
	return &changes{
		start:    start,
		triggers: map[objectName]*triggers{},
	}
}

// see counts the Services and EndpointSlices that came, changed or went since
// the last call.
func (c *changes) see(objects source.Objects) (services, slices int) {
	services = c.services.compare(objects.Services, func(_, _ *corev1.Service) {})
	slices = c.slices.compare(objects.Slices, c.trigger)
	return services, slices
}

// applied returns the triggers of a family that now have had their effect, and
// forgets them.
func (c *changes) applied(family Family) (times []time.Time) {
	for name, t := range c.triggers {
		if t.family == family {
			times = append(times, t.times...)
			delete(c.triggers, name)
		}
	}
	return times
}

// trigger remembers what made a slice change. A slice that went does not tell
// why: what it says is from the change before.
func (c *changes) trigger(before, now *discoveryv1.EndpointSlice) {
	if now == nil {
		delete(c.triggers, objectName{before.Namespace, before.Name})
		return
	}
	text := now.Annotations[corev1.EndpointsLastChangeTriggerTime]
	if text == "" || before != nil && before.Annotations[corev1.EndpointsLastChangeTriggerTime] == text {
		return // something else has changed
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !at.After(c.start) {
		return
	}
	name := objectName{now.Namespace, now.Name}
	t := c.triggers[name]
	if t == nil {
		t = &triggers{family: IPv4}
		if now.AddressType == discoveryv1.AddressTypeIPv6 {
			t.family = IPv6
		}
		c.triggers[name] = t
	}
	if len(t.times) < maxTriggers {
		t.times = append(t.times, at)
	}
}

// known are the objects of one kind as they were seen last.
type known[T interface {
	comparable
	metav1.Object
}] struct{ turnover[T] }

// compare takes the objects as they are now, each name once, and returns how many
// came, changed or went. It calls changed for each of them, with nil for what is
// not there. Objects that stay cost a look-up, and no memory.
func (k *known[T]) compare(objects []T, changed func(before, now T)) (n int) {
	var none T
	came, went := k.update(objects)
	gone := make(map[objectName]T, len(went))
	for _, o := range went {
		gone[objectName{o.GetNamespace(), o.GetName()}] = o
	}
	for _, o := range came {
		name := objectName{o.GetNamespace(), o.GetName()}
		before := gone[name]
		delete(gone, name)
		if before == none || !sameVersion(before, o) {
			changed(before, o)
			n++
		}
	}
	for _, before := range gone {
		changed(before, none)
		n++
	}
	return n
}

// sameVersion says whether two objects of one name are the same. An object
// without a version is only the same as itself.
func sameVersion(a, b metav1.Object) bool {
	return a.GetResourceVersion() != "" && a.GetResourceVersion() == b.GetResourceVersion()
}
