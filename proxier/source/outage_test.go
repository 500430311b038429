package source

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestOutageIsToldOnce(t *testing.T) {
	log := newLogbook(t)
	o := newOutages(log, "10.0.0.5:6443")
	for range 100 {
		o.failed("list", "services", syscall.ECONNREFUSED)
		o.failed("watch", "nodes", syscall.ECONNREFUSED) // the same
	}
	o.failed("list", "services", apierrors.NewUnauthorized("who?")) // another cause
	o.answered("list", "services")
	o.answered("list", "services")
	for range 100 { // it comes and goes
		o.failed("list", "services", syscall.ECONNREFUSED)
		o.answered("list", "services")
	}
	want := []string{
		"warning cannot list services at the API server 10.0.0.5:6443: connection refused; is the API server running, and is this its address (kubeconfig, --master)?; what is known stays in use",
		"warning cannot list services at the API server 10.0.0.5:6443: who?; the API server does not know usher's credentials: see the token or client certificate (expired?); what is known stays in use",
		"info the API server 10.0.0.5:6443 answers again, after 1s",
	}
	if got := log.all(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOutageIsToldAgainAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLogbook(t)
		o := newOutages(log, "10.0.0.5:6443")
		for range 60 { // half an hour of retries
			o.failed("watch", "nodes", syscall.ECONNREFUSED)
			time.Sleep(30 * time.Second)
		}
		if n := log.count("cannot watch nodes"); n != 3 {
			t.Errorf("told %d times in half an hour", n)
		}
		o.answered("watch", "nodes")
		if log.count("answers again", "after 30m0s") != 1 {
			t.Errorf("got %q", log.all())
		}
	})
}

// What is wrong with one request is told of that one.
func TestOutageOfOneRequest(t *testing.T) {
	log := newLogbook(t)
	o := newOutages(log, "10.0.0.5:6443")
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "", nil)
	o.failed("list", "nodes", forbidden)
	o.answered("list", "services")
	o.failed("list", "nodes", forbidden)
	o.answered("list", "nodes")
	if log.count("cannot list nodes") != 1 || log.count("can list nodes at the API server 10.0.0.5:6443 again, after 1s") != 1 || len(log.all()) != 2 {
		t.Errorf("got %q", log.all())
	}
}

func TestDiagnose(t *testing.T) {
	services := schema.GroupResource{Resource: "services"}
	for _, test := range []struct {
		err  error
		want string
	}{
		{apierrors.NewForbidden(services, "", nil), "list and watch on services"},
		{apierrors.NewNotFound(services, ""), "1.21"},
		{&url.Error{Err: x509.UnknownAuthorityError{}}, "certificate-authority"},
		{&url.Error{Err: &net.OpError{Err: &net.DNSError{Name: "api"}}}, "DNS"},
		{&url.Error{Err: &net.OpError{Err: syscall.EHOSTUNREACH}}, "routes and firewalls"},
		{&url.Error{Err: &net.OpError{Err: timeout{}}}, "routes and firewalls"},
		{fmt.Errorf("failed: %w", syscall.ECONNREFUSED), "running"},
		{&url.Error{Err: io.EOF}, "in front of it"},
		{errors.New("odd"), "log"},
	} {
		if _, advice := diagnose(test.err, "services"); !strings.Contains(advice, test.want) {
			t.Errorf("%v: %q, want %q in it", test.err, advice, test.want)
		}
	}
}

type timeout struct{}

func (timeout) Error() string   { return "timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }
