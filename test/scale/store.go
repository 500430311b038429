package scale

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
)

const (
	writers      = 16 // of many objects at a time
	writeTimeout = 30 * time.Second
)

// A store writes Services and EndpointSlices to the API server: as is, which costs the server
// much less than a server-side apply. It may be used by several goroutines at once.
type store struct {
	rest  *rest.RESTClient
	coder runtime.Encoder
}

func newStore(config *rest.Config) (*store, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	return &store{client, protobuf.NewSerializer(scheme, scheme)}, err
}

// create writes an object that is not there yet, and replace one that is.
func (s *store) create(o object) error  { return s.write(s.rest.Post().AbsPath(collection(o)), o) }
func (s *store) replace(o object) error { return s.write(s.rest.Put().AbsPath(path(o)), o) }

func (s *store) delete(o object) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := s.rest.Delete().AbsPath(path(o)).Do(ctx).Error(); err != nil {
		return fmt.Errorf("delete %s: %w", path(o), err)
	}
	return nil
}

func (s *store) write(r *rest.Request, o object) error {
	var body bytes.Buffer
	if err := s.coder.Encode(o, &body); err != nil {
		return fmt.Errorf("encode %s: %w", path(o), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := r.SetHeader("Content-Type", runtime.ContentTypeProtobuf).Body(body.Bytes()).Do(ctx).Error(); err != nil {
		return fmt.Errorf("write %s: %w", path(o), err)
	}
	return nil
}

// An object is a Service or an EndpointSlice.
type object interface {
	metav1.Object
	runtime.Object
}

func collection(o object) string {
	if _, ok := o.(*corev1.Service); ok {
		return "/api/v1/namespaces/" + namespace + "/services"
	}
	return "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
}

func path(o object) string { return collection(o) + "/" + o.GetName() }

// inParallel calls f with the numbers from first up to, but without, end. After the first
// error it only waits for those that are under way.
func inParallel(first, end number, f func(number) error) error {
	var (
		next   atomic.Int64
		failed atomic.Pointer[error]
		all    sync.WaitGroup
	)
	next.Store(int64(first))
	for range writers {
		all.Go(func() {
			for failed.Load() == nil {
				n := number(next.Add(1) - 1)
				if n >= end {
					return
				}
				if err := f(n); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
