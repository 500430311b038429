package source

import (
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// object is what a file says about one Kubernetes object, complete and valid.
type object struct {
	position
	id     identity
	claims []claim // of a Service

	// At most one is set: none for an object that is not ours to serve.
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
	legacy  []*discoveryv1.EndpointSlice // of Endpoints
	node    *corev1.Node
}

// identity is what no two objects share.
type identity struct{ kind, namespace, name string }

func (i identity) String() string {
	return Ref{Kind: i.kind, Namespace: i.namespace, Name: i.name}.String()
}

// kind is a kind of object that files may hold.
type kind struct {
	group string // "" for the core group
	name  string
	read  func(*decoder, item)
}

// kinds in their only version, v1.
var kinds = []kind{
	{"", "Service", readService},
	{discoveryv1.GroupName, "EndpointSlice", readSlice},
	{"", "Endpoints", readEndpoints},
	{"", "Node", readNode},
}

func (k kind) apiVersion() string {
	if k.group == "" {
		return "v1"
	}
	return k.group + "/v1"
}

func readService(d *decoder, it item) {
	s := &corev1.Service{}
	if !d.into(it, s) {
		return
	}
	defaultNamespace(&s.ObjectMeta)
	defaultService(s)
	o := object{id: identity{"Service", s.Namespace, s.Name}}
	if d.ours.wantsService(s) {
		o.service = s
		faults := validateService(s)
		if d.ours.unallocated {
			faults = slices.DeleteFunc(faults, func(f fault) bool { return f.message == noClusterIP })
		}
		d.fromFile(it, o, s, faults)
		return
	}
	d.fromFile(it, o, s, validateMeta(s, isServiceName))
}

func readSlice(d *decoder, it item) {
	s := &discoveryv1.EndpointSlice{}
	if !d.into(it, s) {
		return
	}
	defaultNamespace(&s.ObjectMeta)
	o := object{id: identity{"EndpointSlice", s.Namespace, s.Name}}
	if d.ours.wantsSlice(s) {
		defaultSlice(s)
		o.slice = s
		d.fromFile(it, o, s, validateSlice(s))
		return
	}
	d.fromFile(it, o, s, validateMeta(s, isObjectName))
}

func readNode(d *decoder, it item) {
	n := &corev1.Node{}
	if !d.into(it, n) {
		return
	}
	n.Namespace = ""
	_, _ = strip(n)
	d.fromFile(it, object{id: identity{"Node", "", n.Name}, node: n}, n, validateNode(n))
}

// fromFile adds an object, unless it has faults.
func (d *decoder) fromFile(it item, o object, content metav1.Object, faults []fault) {
	if len(faults) > 0 {
		d.fault(it, faults...)
		return
	}
	o.position = position{d.file, it.before + it.node.Line}
	if o.service != nil {
		o.claims = claimsOf(o.service)
		for i := range o.claims {
			o.claims[i].line = it.before + lineOf(it.node, o.claims[i].field)
		}
	}
	stamp(content, o.id.kind)
	d.objects = append(d.objects, o)
}

// stamp gives an object the marks that an API server would have given it. The
// resourceVersion is always a hash of the content: a file made from kubectl's
// output has one, which stays the same when the file is edited.
func stamp(o metav1.Object, kind string) {
	if o.GetUID() == "" {
		id := identity{kind, o.GetNamespace(), o.GetName()}
		o.SetUID(types.UID("manifest-" + strconv.FormatUint(hash([]byte(id.String())), 16)))
	}
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	content, err := json.Marshal(o)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	o.SetResourceVersion(strconv.FormatUint(hash(content), 10))
}

func hash(content []byte) uint64 {
	h := fnv.New64a()
	h.Write(content)
	return h.Sum64()
}
