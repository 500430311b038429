package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A request that keeps failing is told when it begins to fail, when it fails
// in another way, once in outageRepeat, and when it succeeds again. One that
// fails every now and then is told once in outageAgain. If the fault is not that
// of the request, all requests count as one.
const (
	outageRepeat = 10 * time.Minute
	outageAgain  = time.Minute
)

// outages tells of requests that the API server does not answer well. It may
// be used by several goroutines.
type outages struct {
	log     logrus.FieldLogger
	address string // of the API server
	again   *quiet

	mu   sync.Mutex
	open map[string]*outage // by what was tried, "" if all is as one
}

type outage struct {
	since time.Time
	told  time.Time // zero: not yet
	cause string
}

func newOutages(log logrus.FieldLogger, address string) *outages {
	return &outages{log: log, address: address, again: newQuiet(outageAgain), open: make(map[string]*outage)}
}

// failed notes that verb ("list") failed on resource ("services").
func (o *outages) failed(verb, resource string, err error) {
	cause, advice := diagnose(err, resource)
	what := verb + " " + resource
	scope := what
	if concernsAll(cause) {
		scope = ""
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	out := o.open[scope]
	if out == nil {
		out = &outage{since: now}
		o.open[scope] = out
	}
	if out.cause == cause && now.Sub(out.told) < outageRepeat {
		return
	}
	out.cause = cause
	if o.again.passes(scope + cause) {
		out.told = now
		o.log.Warnf("cannot %s at the API server %s: %v; %s; what is known stays in use", what, o.address, withoutURL(err), advice)
	}
}

// answered notes that verb succeeded on resource.
func (o *outages) answered(verb, resource string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	what := verb + " " + resource
	if lasted := o.close(what); lasted > 0 {
		o.log.Infof("can %s at the API server %s again, after %s", what, o.address, lasted)
	}
	if lasted := o.close(""); lasted > 0 {
		o.log.Infof("the API server %s answers again, after %s", o.address, lasted)
	}
}

// close ends an outage. It returns how long that has lasted, rounded up to a second, and 0
// if there is nothing to tell.
func (o *outages) close(scope string) time.Duration {
	out := o.open[scope]
	delete(o.open, scope)
	if out == nil || out.told.IsZero() {
		return 0
	}
	return max(time.Since(out.since).Round(time.Second), time.Second)
}

// withoutURL shortens an error of net/http, which quotes the whole request.
func withoutURL(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

// refused reports whether the API server understood the request and will not
// answer it: waiting is no use.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err)
}

// Kinds of failures.
const (
	causeForbidden    = "forbidden"
	causeUnauthorized = "unauthorized"
	causeNotFound     = "not found"
	causeCertificate  = "certificate"
	causeName         = "name"
	causeRefused      = "connection refused"
	causeUnreachable  = "unreachable"
	causeCut          = "connection ended"
	causeOther        = "other"
)

// concernsAll reports whether what is asked for makes no difference to a failure.
func concernsAll(cause string) bool {
	switch cause {
	case causeForbidden, causeNotFound, causeOther:
		return false
	}
	return true
}

// diagnose returns the kind of a failure, and what to do about it.
func diagnose(err error, resource string) (cause, advice string) {
	switch {
	case apierrors.IsForbidden(err):
		return causeForbidden, fmt.Sprintf("give usher's user the verbs list and watch on %s (a ClusterRole and its binding)", resource)
	case apierrors.IsUnauthorized(err):
		return causeUnauthorized, "the API server does not know usher's credentials: see the token or client certificate (expired?)"
	case apierrors.IsNotFound(err):
		return causeNotFound, "is this the address of a Kubernetes API server of version 1.21 or later?"
	case isCertificateError(err):
		return causeCertificate, "see certificate-authority in the kubeconfig, and that the server's certificate names this address"
	case isDNSError(err):
		return causeName, "the name of the API server does not resolve on this node: see its DNS, or give an address with --master"
	case errors.Is(err, syscall.ECONNREFUSED):
		return causeRefused, "is the API server running, and is this its address (kubeconfig, --master)?"
	case isTimeout(err) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
		return causeUnreachable, "see routes and firewalls between this node and the API server"
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return causeCut, "see the log of the API server, or of what is in front of it: it takes connections, and ends them without an answer"
	}
	return causeOther, "see the API server's log"
}

func isCertificateError(err error) bool {
	var verification *tls.CertificateVerificationError
	var hostname x509.HostnameError
	var authority x509.UnknownAuthorityError
	return errors.As(err, &verification) || errors.As(err, &hostname) || errors.As(err, &authority)
}

func isDNSError(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}
