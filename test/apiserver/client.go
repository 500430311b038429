package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
)

// An Object is a pointer to one of the kinds that tests handle: Namespace, Node, Service,
// Event, EndpointSlice, ClusterRole and ClusterRoleBinding.
type Object interface {
	metav1.Object
	runtime.Object
}

// collection is where the objects of a kind are found.
func collection(of runtime.Object, namespace string) (string, error) {
	in := "/namespaces/" + namespace
	if namespace == "" {
		in = "" // of all namespaces
	}
	switch of.(type) {
	case *corev1.Namespace, *corev1.NamespaceList:
		return "/api/v1/namespaces", nil
	case *corev1.Node, *corev1.NodeList:
		return "/api/v1/nodes", nil
	case *corev1.Service, *corev1.ServiceList:
		return "/api/v1" + in + "/services", nil
	case *corev1.Event, *corev1.EventList:
		return "/api/v1" + in + "/events", nil
	case *discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList:
		return "/apis/discovery.k8s.io/v1" + in + "/endpointslices", nil
	case *rbacv1.ClusterRole, *rbacv1.ClusterRoleList:
		return "/apis/rbac.authorization.k8s.io/v1/clusterroles", nil
	case *rbacv1.ClusterRoleBinding, *rbacv1.ClusterRoleBindingList:
		return "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", nil
	}
	return "", fmt.Errorf("%T is not among the kinds that tests handle", of)
}

// scheme knows the groups of these kinds, and no other: all of them together double the
// size of a test.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	utilruntime.Must(corev1.AddToScheme(s))
	utilruntime.Must(discoveryv1.AddToScheme(s))
	utilruntime.Must(rbacv1.AddToScheme(s))
	return s
}()

// A Client reads and writes objects in the name of one user.
type Client struct {
	Config *rest.Config // to make other clients from

	rest *rest.RESTClient
}

func newClient(config *rest.Config) (*Client, error) {
	c := &Client{Config: rest.CopyConfig(config)}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	var err error
	c.rest, err = rest.UnversionedRESTClientFor(config)
	return c, err
}

// Apply creates the object or makes the one of its name equal to it, status included, and
// fills it with what the server made of it. Fields that an earlier Apply set and this one
// does not are unset.
func (c *Client) Apply(ctx context.Context, obj Object) error {
	wanted := obj.DeepCopyObject().(Object)
	if err := c.apply(ctx, obj, ""); err != nil {
		return err
	}
	// The server ignores the status of an object as such.
	if equality.Semantic.DeepEqual(status(wanted), status(obj)) {
		return nil
	}
	if node, ok := obj.(*corev1.Node); ok {
		return c.putStatus(ctx, node, wanted.(*corev1.Node).Status)
	}
	if err := c.apply(ctx, wanted, "status"); err != nil {
		return err
	}
	return c.Get(ctx, obj)
}

// putStatus replaces the status of a Node that was just read. A server-side apply cannot: it
// takes the type of an address for its key, and a Node may have two of a type.
func (c *Client) putStatus(ctx context.Context, node *corev1.Node, status corev1.NodeStatus) error {
	path, err := objectPath(node)
	if err != nil {
		return err
	}
	node.Status = status
	return fill(node, c.rest.Put().AbsPath(path).Suffix("status").Body(node).Do(ctx))
}

// status is the part of an object that has to be written separately, if it has one.
func status(obj Object) any {
	switch obj := obj.(type) {
	case *corev1.Service:
		return obj.Status
	case *corev1.Node:
		return obj.Status
	}
	return nil
}

// apply does a server-side apply of the object or a subresource of it.
func (c *Client) apply(ctx context.Context, obj Object, subresource string) error {
	body, err := applyBody(obj)
	if err != nil {
		return err
	}
	path, err := objectPath(obj)
	if err != nil {
		return err
	}
	return fill(obj, c.rest.Patch(types.ApplyPatchType).AbsPath(path).Suffix(subresource).
		Param("fieldManager", "test").Param("force", "true").
		Body(body).Do(ctx))
}

// applyBody is the object without what the server says about it.
func applyBody(obj Object) ([]byte, error) {
	obj = obj.DeepCopyObject().(Object)
	kinds, _, err := scheme.ObjectKinds(obj)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(kinds[0])
	obj.SetManagedFields(nil)
	obj.SetResourceVersion("")
	obj.SetUID("")
	obj.SetGeneration(0)
	obj.SetCreationTimestamp(metav1.Time{})
	if node, ok := obj.(*corev1.Node); ok {
		node.Status = corev1.NodeStatus{} // see putStatus
	}
	return json.Marshal(obj)
}

// Get fills the object with the server's one of the same namespace and name.
func (c *Client) Get(ctx context.Context, obj Object) error {
	path, err := objectPath(obj)
	if err != nil {
		return err
	}
	return fill(obj, c.rest.Get().AbsPath(path).Do(ctx))
}

// List fills the list with the objects of a namespace, or of all if that is empty.
func (c *Client) List(ctx context.Context, list runtime.Object, namespace string) error {
	path, err := collection(list, namespace)
	if err != nil {
		return err
	}
	return fill(list, c.rest.Get().AbsPath(path).Do(ctx))
}

// Delete deletes the object of the same namespace and name.
func (c *Client) Delete(ctx context.Context, obj Object) error {
	path, err := objectPath(obj)
	if err != nil {
		return err
	}
	return c.rest.Delete().AbsPath(path).Do(ctx).Error()
}

func objectPath(obj Object) (string, error) {
	path, err := collection(obj, obj.GetNamespace())
	return path + "/" + obj.GetName(), err
}

// fill makes obj what the server answered. Decoding straight into obj would leave in it what
// the answer lacks.
func fill(obj runtime.Object, result rest.Result) error {
	answer, err := result.Get()
	if err != nil {
		return err
	}
	to, from := reflect.ValueOf(obj).Elem(), reflect.ValueOf(answer).Elem()
	if to.Type() != from.Type() {
		return fmt.Errorf("the server answered with %T, not %T", answer, obj)
	}
	to.Set(from)
	return nil
}

// ready asks the server whether it serves all that it is going to.
func (c *Client) ready(ctx context.Context) error {
	if err := c.rest.Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	// The server makes these objects itself, a little later than it says it is ready. Until
	// then it can neither allocate addresses nor take objects into this namespace.
	kubernetes := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}}
	return c.Get(ctx, kubernetes)
}
