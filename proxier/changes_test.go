package proxier

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/proxier/source"
)

// versioned names a version of an object.
func versioned(name, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: version}
}

func serviceAt(name, version string) *corev1.Service {
	return &corev1.Service{ObjectMeta: versioned(name, version)}
}

// sliceAt is a version of a slice that was triggered at a time; the zero time:
// it does not say.
func sliceAt(name, version string, family Family, at time.Time) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: versioned(name, version), AddressType: discoveryv1.AddressType(family.String())}
	if !at.IsZero() {
		s.Annotations = map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": at.Format(time.RFC3339Nano)}
	}
	return s
}

func TestChangesAreCounted(t *testing.T) {
	c := newChanges(time.Now())
	a, b, unversioned := serviceAt("a", "1"), serviceAt("b", "1"), serviceAt("c", "")
	elsewhere := serviceAt("a", "1")
	elsewhere.Namespace = "elsewhere"
	for _, step := range []struct {
		what string
		now  []*corev1.Service
		want int
	}{
		{"two come", []*corev1.Service{a, b}, 2},
		{"nothing", []*corev1.Service{b, a}, 0},
		{"the same version in another object", []*corev1.Service{a, serviceAt("b", "1")}, 0},
		{"one changes", []*corev1.Service{a, serviceAt("b", "2")}, 1},
		{"one goes, one comes", []*corev1.Service{a, elsewhere}, 2},
		{"nothing", []*corev1.Service{a, elsewhere}, 0},
		{"one goes", []*corev1.Service{elsewhere}, 1},
		{"one without version comes", []*corev1.Service{elsewhere, unversioned}, 1},
		{"and stays", []*corev1.Service{elsewhere, unversioned}, 0},
		{"and is replaced", []*corev1.Service{elsewhere, serviceAt("c", "")}, 1},
		{"all go", nil, 2},
		{"one comes back", []*corev1.Service{a}, 1},
	} {
		if got, slices := c.see(source.Objects{Services: step.now}); got != step.want || slices != 0 {
			t.Errorf("%s: %d changes of Services and %d of slices, want %d", step.what, got, slices, step.want)
		}
	}
}

func TestTriggersOfSlices(t *testing.T) {
	start := time.Now()
	after := func(d time.Duration) time.Time { return start.Add(d).UTC() }
	c := newChanges(start)
	see := func(want int, all ...*discoveryv1.EndpointSlice) {
		t.Helper()
		if _, n := c.see(source.Objects{Slices: all}); n != want {
			t.Errorf("%d changes, want %d", n, want)
		}
	}
	applied := func(family Family, want ...time.Time) {
		t.Helper()
		got := c.applied(family)
		slices.SortFunc(got, time.Time.Compare)
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Errorf("%s: triggers %v, want %v", family, got, want)
		}
	}
	six := sliceAt("six", "1", IPv6, after(2*time.Second))
	bad := sliceAt("bad", "1", IPv4, time.Time{})
	bad.Annotations = map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "yesterday"}
	see(4, sliceAt("a", "1", IPv4, after(time.Second)), six, bad, sliceAt("old", "1", IPv4, after(-time.Second)))
	applied(IPv4, after(time.Second)) // and not again, nor those of the other family
	applied(IPv4)
	applied(IPv6, after(2*time.Second))

	// One change after the other while nothing can be applied. A change that was
	// not triggered repeats what was said before.
	see(3, sliceAt("a", "2", IPv4, after(3*time.Second)), six)
	see(1, sliceAt("a", "3", IPv4, after(4*time.Second)), six)
	see(1, sliceAt("a", "4", IPv4, after(4*time.Second)), six)
	see(1, sliceAt("a", "5", IPv4, time.Time{}), six)
	applied(IPv4, after(3*time.Second), after(4*time.Second))

	// A slice that goes does not tell when that was asked for.
	see(1, sliceAt("a", "6", IPv4, after(5*time.Second)), six)
	see(1, six)
	applied(IPv4)
	applied(IPv6)

	for i := range 2 * maxTriggers {
		see(1, sliceAt("six", fmt.Sprint(10+i), IPv6, after(time.Hour+time.Duration(i))))
	}
	if n := len(c.applied(IPv6)); n != maxTriggers {
		t.Errorf("%d triggers are kept, want %d", n, maxTriggers)
	}
}

// many is a large cluster.
func many(n int) (objects source.Objects) {
	for i := range n {
		name := fmt.Sprintf("service-%d", i)
		objects.Services = append(objects.Services, serviceAt(name, "1"))
		objects.Slices = append(objects.Slices, sliceAt(name+"-abcde", "1", IPv4, time.Time{}))
	}
	return objects
}

func TestUnchangedObjectsCostNoMemory(t *testing.T) {
	c, objects := newChanges(time.Now()), many(100)
	c.see(objects)
	if n := testing.AllocsPerRun(10, func() { c.see(objects) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChanges(b *testing.B) {
	c, objects := newChanges(time.Now()), many(10000)
	c.see(objects)
	b.ReportAllocs()
	for b.Loop() {
		c.see(objects)
	}
}
