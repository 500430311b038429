package source

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// contact remembers when the API server last sent something. A watch is sent
// a bookmark about every minute, so an older contact means trouble.
type contact struct {
	last atomic.Int64 // Unix nanoseconds, 0 for never
}

func (c *contact) note() { c.last.Store(time.Now().UnixNano()) }

// time returns the zero time if there was none yet.
func (c *contact) time() time.Time {
	if nanos := c.last.Load(); nanos != 0 {
		return time.Unix(0, nanos)
	}
	return time.Time{}
}

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
		t.contact.note()
		response.Body = &contactBody{ReadCloser: response.Body, contact: t.contact}
	}
	return response, err
}

// WrappedRoundTripper lets apimachinery find the transport whose idle
// connections it closes.
func (t *contactTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

type contactBody struct {
	io.ReadCloser
	contact *contact
}

func (b *contactBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.contact.note()
	}
	return n, err
}
