package source

import (
	"io"
	"net/http"
	"time"
)

// contact remembers when the API server last sent something. A watch is sent
// a bookmark about every minute, so an older contact means trouble.
type contact struct {
	last                    moment
	services, slices, nodes moment // of each kind
}

// note notes a contact, by of if that is not nil.
func (c *contact) note(of *moment) {
	c.last.note()
	if of != nil {
		of.note()
	}
}

// time returns the zero time if there was none yet.
func (c *contact) time() time.Time { return c.last.time() }

// wrap returns a transport that notes each response, and each read from its
// body: a watch is one response that lasts for minutes.
func (c *contact) wrap(next http.RoundTripper) http.RoundTripper {
	return &contactTransport{contact: c, next: next}
}

type contactTransport struct {
	contact *contact
	next    http.RoundTripper
}

func (t *contactTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err == nil {
		of := t.contact.of(r.URL.Path)
		t.contact.note(of)
		response.Body = &contactBody{ReadCloser: response.Body, contact: t.contact, of: of}
	}
	return response, err
}

// WrappedRoundTripper lets apimachinery find the transport whose idle
// connections it closes.
func (t *contactTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

type contactBody struct {
	io.ReadCloser
	contact *contact
	of      *moment
}

func (b *contactBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.contact.note(b.of)
	}
	return n, err
}
