package source

import (
	"io"
	"net/http"
	"path"
	"sync/atomic"
	"time"
)

// contact remembers what was heard of each kind of objects.
type contact struct{ services, slices, nodes heard }

// heard is what the API server sent of one kind. A watch is sent a bookmark about every
// minute, so when that is longer ago there is trouble.
type heard struct {
	last  moment
	lists atomic.Uint64 // how often all were listed
}

// of is the contact by a request for one kind of objects, nil for any other request.
func (c *contact) of(urlPath string) *heard {
	return map[string]*heard{servicesResource: &c.services, slicesResource: &c.slices, nodesResource: &c.nodes}[path.Base(urlPath)]
}

// wrap returns a transport that notes each good response to a request for objects, and
// each read from its body: a watch is one response that lasts for minutes. A refusal
// tells nothing of the objects. Of a request that gets no response failed is told, at
// once: client-go tries a watch ten times more before it gives it up.
func (c *contact) wrap(next http.RoundTripper, failed func(verb, resource string, err error)) http.RoundTripper {
	return &contactTransport{contact: c, next: next, failed: failed}
}

type contactTransport struct {
	contact *contact
	next    http.RoundTripper
	failed  func(verb, resource string, err error)
}

func (t *contactTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	of := t.contact.of(r.URL.Path)
	switch {
	case of == nil:
	case err == nil && response.StatusCode == http.StatusOK:
		of.last.note()
		response.Body = &contactBody{ReadCloser: response.Body, of: of}
	case err != nil && r.Context().Err() == nil:
		verb := "list"
		if r.URL.Query().Has("watch") {
			verb = "watch"
		}
		t.failed(verb, path.Base(r.URL.Path), err)
	}
	return response, err
}

// WrappedRoundTripper lets apimachinery find the transport whose idle
// connections it closes.
func (t *contactTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

type contactBody struct {
	io.ReadCloser
	of *heard
}

func (b *contactBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.of.last.note()
	}
	return n, err
}

// moment is a time that may be noted and read at once.
type moment struct{ nanos atomic.Int64 } // since 1970, 0 for never

func (m *moment) note() { m.nanos.Store(time.Now().UnixNano()) }

// time returns the zero time if there was none yet.
func (m *moment) time() time.Time {
	if nanos := m.nanos.Load(); nanos != 0 {
		return time.Unix(0, nanos)
	}
	return time.Time{}
}
