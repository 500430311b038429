package source

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// resource is one kind of object at the API server, and which of them to ask
// for.
type resource struct {
	name   string // "services"
	client rest.Interface
	heard  *heard // counts the lists
	fields string // selectors, "" for all
	labels string
}

// listWatch lists and watches a resource, and tells outages how that goes.
// onRefused, which may be nil, is called each time the API server refuses.
// The informer retries by itself, with a growing pause of up to a minute.
func (r resource) listWatch(o *outages, onRefused func()) cache.ListerWatcher {
	plain := cache.NewFilteredListWatchFromClient(r.client, r.name, metav1.NamespaceAll, func(options *metav1.ListOptions) {
		options.FieldSelector, options.LabelSelector = r.fields, r.labels
	})
	note := func(ctx context.Context, verb string, err error) {
		switch {
		case err == nil:
			o.answered(verb, r.name)
		case apierrors.IsResourceExpired(err): // away for long: a list follows
		case ctx.Err() == nil:
			o.failed(verb, r.name, err)
			if refused(err) && onRefused != nil {
				onRefused()
			}
		}
	}
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		result, err := plain.ListWithContext(ctx, options)
		note(ctx, "list", err)
		if err == nil && options.Continue == "" {
			r.heard.lists.Add(1)
		}
		return result, err
	}
	watch := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		result, err := plain.WatchWithContext(ctx, options)
		if err == nil && unanswered(result) {
			if options.SendInitialEvents == nil {
				return result, nil // it has ended already: the informer tries again
			}
			err = errors.New("no answer")
		}
		if err != nil && options.SendInitialEvents != nil {
			return nil, opaque(err) // a list follows, and tells
		}
		if err == nil && options.SendInitialEvents != nil {
			o.answered("list", r.name) // there will be none
			r.heard.lists.Add(1)
		}
		note(ctx, "watch", err)
		return result, err
	}
	return &cache.ListWatch{ListWithContextFunc: list, WatchFuncWithContext: watch}
}

// unanswered reports whether a watch had no answer though it did not fail: client-go makes
// one that has ended of a connection that was cut, or could not be had in time. The
// transport has told why.
func unanswered(w watch.Interface) bool {
	_, streams := w.(*watch.StreamWatcher)
	return !streams
}

// opaque hides what kind of error err is. The informer begins with a watch
// that is to bring the list too, and waits before it retries some kinds of
// failure, deaf to its context. Any other kind makes it fall back to a list at
// once, where it does heed the context.
func opaque(err error) error { return errors.New(err.Error()) }
