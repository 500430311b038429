package source

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	eventutil "k8s.io/client-go/tools/record/util"
)

const (
	eventQueue    = 1000 // events that wait to be written; more are dropped
	eventTries    = 5    // with a pause that begins at eventPause and doubles
	eventPause    = time.Second
	eventRequest  = 10 * time.Second
	eventMessage  = 1024 // bytes: the API server refuses longer ones
	eventReporter = "usher"
)

// events writes Kubernetes Events. The correlator folds repeated ones into
// one with a count, many similar ones into a summary, and lets one object have
// 25 in a burst and then one in five minutes. Those that every node has to tell
// are told by the first of them alone; see everyNode.
//
// record.EventBroadcaster would bring a queue and goroutines of its own that
// nobody can wait for; here there is one of each.
type events struct {
	client     rest.Interface // of core/v1
	source     corev1.EventSource
	uidOf      func(Ref) types.UID
	log        logrus.FieldLogger
	faults     *quiet
	queue      chan *corev1.Event
	correlator *record.EventCorrelator // used by run only
}

func newEvents(client rest.Interface, node string, uidOf func(Ref) types.UID, log logrus.FieldLogger) *events {
	return &events{
		client: client, source: corev1.EventSource{Component: eventReporter, Host: node}, uidOf: uidOf,
		log: log, faults: newQuiet(10 * time.Minute), queue: make(chan *corev1.Event, eventQueue),
		correlator: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{}),
	}
}

// add queues an event. It never blocks.
func (e *events) add(about Ref, reason, message string) {
	select {
	case e.queue <- e.event(about, reason, message):
	default:
		if e.faults.passes("queue") {
			e.log.Warnf("%d Kubernetes Events wait to be written: new ones are dropped, such as %s of %s", eventQueue, reason, about)
		}
	}
}

func (e *events) event(about Ref, reason, message string) *corev1.Event {
	now := metav1.Now()
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where the Events of cluster-scoped objects are kept
	}
	uid := e.uidOf(about)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: eventName(about, uid, reason, message, now.Time)},
		InvolvedObject: corev1.ObjectReference{
			Kind: about.Kind, APIVersion: about.apiVersion(), Namespace: about.Namespace, Name: about.Name, UID: uid,
		},
		Type:           corev1.EventTypeWarning,
		Reason:         reason,
		Message:        strings.ToValidUTF8(message[:min(len(message), eventMessage)], ""),
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: e.source, ReportingController: e.source.Component, ReportingInstance: e.source.Host,
	}
}

// everyNode are the reasons of events that follow from the object alone, and that
// the usher of every node has to tell for that: of a thousand nodes one is to
// write them. So they have names that all nodes find, the API server accepts the
// first, and to the others it says that there is one already. They have no counts,
// which would be written by all, and are in no summary, which would have a name of
// its own on each node.
var everyNode = map[string]bool{"InvalidUsherAnnotation": true}

// eventName is the same on every node, and again after a restart, for events that
// everyNode tells.
func eventName(about Ref, uid types.UID, reason, message string, now time.Time) string {
	unique := now.UnixNano()
	if everyNode[reason] {
		what := strings.Join([]string{string(uid), reason, message}, "\x00")
		unique = int64(hash([]byte(what)) >> 1) // no sign, which is not for names
	}
	return eventutil.GenerateEventName(about.Name, unique)
}

// run writes events until ctx is done. Those that still wait then are dropped.
func (e *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-e.queue:
			result, err := e.correlator.EventCorrelate(event)
			if err != nil || result.Skip {
				continue
			}
			if everyNode[event.Reason] {
				result.Event = event // neither counted nor summed up
			}
			e.writeWithRetry(ctx, result)
		}
	}
}

func (e *events) writeWithRetry(ctx context.Context, result *record.EventCorrelateResult) {
	pause := eventPause
	for try := 1; ; try++ {
		written, err := e.write(ctx, result)
		if err == nil {
			e.correlator.UpdateState(written)
			return
		}
		// A status is an answer, and it would be the same again.
		if status := apierrors.APIStatus(nil); errors.As(err, &status) || try == eventTries || ctx.Err() != nil {
			e.giveUp(ctx, result.Event, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// write creates the event, or changes the count of one that was created.
func (e *events) write(ctx context.Context, result *record.EventCorrelateResult) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, eventRequest)
	defer cancel()
	event, written := result.Event, &corev1.Event{}
	if event.Count > 1 {
		err := e.client.Patch(types.StrategicMergePatchType).Namespace(event.Namespace).Resource("events").
			Name(event.Name).Body(result.Patch).Do(ctx).Into(written)
		if !apierrors.IsNotFound(err) {
			return written, err
		}
		event.ResourceVersion = "" // it has expired: a new one, with the count so far
	}
	err := e.client.Post().Namespace(event.Namespace).Resource("events").Body(event).Do(ctx).Into(written)
	return written, err
}

func (e *events) giveUp(ctx context.Context, event *corev1.Event, err error) {
	if ctx.Err() != nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return
	}
	what := "see the API server"
	if apierrors.IsForbidden(err) {
		what = "give usher's user the verbs create and patch on events"
	}
	if e.faults.passes(string(apierrors.ReasonForError(err))) {
		e.log.Warnf("cannot write Kubernetes Events, such as %s of %s %s: %v; %s; usher's own log has everything",
			event.Reason, event.InvolvedObject.Kind, event.InvolvedObject.Name, err, what)
	}
}
