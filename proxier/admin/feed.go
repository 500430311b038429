package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// Feed is what can be followed at a path: JSON lines (NDJSON) that come as they are made,
// until there are no more or the client has gone.
type Feed struct {
	Parameters []string // of the query
	// Change says that following changes something: then it takes a POST, and root.
	Change bool
	// Run sends whole lines until ctx is done, which the client's going is as well. The
	// first call of send begins the answer, also with no line at all; until then an error
	// is an answer as that of a View. send fails once a client takes nothing for half a
	// minute: Run is to return then. It may be called from several goroutines.
	Run func(ctx context.Context, query url.Values, send func(lines []byte) error) error
}

func (f *Feed) method() string {
	if f.Change {
		return http.MethodPost
	}
	return http.MethodGet
}

// maxFollowers is how many may follow feeds at a time.
const maxFollowers = 32

// followers counts them.
type followers struct{ n atomic.Int64 }

func (f *followers) enter() error {
	if f.n.Add(1) > maxFollowers {
		f.n.Add(-1)
		return &Error{http.StatusServiceUnavailable, fmt.Sprintf("there are %d who follow already, which is as many as may; end one of them", maxFollowers)}
	}
	return nil
}

func (f *followers) leave() { f.n.Add(-1) }

// sender writes the lines of a feed.
type sender struct {
	w        http.ResponseWriter
	conn     *http.ResponseController
	patience time.Duration
	mu       sync.Mutex
	begun    bool
}

// send waits for a client that has stopped reading as long as its patience lasts, and then
// it is hung up on.
func (s *sender) send(lines []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.begun = true
		setHeaders(s.w, "application/x-ndjson")
	}
	err := s.conn.SetWriteDeadline(time.Now().Add(s.patience))
	if err == nil {
		_, err = s.w.Write(lines)
	}
	if err == nil {
		err = s.conn.Flush()
	}
	return err
}

// serveFeed returns the error of a feed that has not begun.
func (h handler) serveFeed(w http.ResponseWriter, r *http.Request, feed Feed) error {
	switch {
	case r.Method == http.MethodHead && !feed.Change:
		setHeaders(w, "application/x-ndjson")
		return nil
	case r.Method != feed.method():
		w.Header().Set("Allow", feed.method())
		return &Error{http.StatusMethodNotAllowed, fmt.Sprintf("%s is for %s", r.URL.Path, feed.method())}
	case feed.Change && !mayChange(r.Context()):
		return errNotRoot
	}
	read := parameters
	if feed.Change {
		read = choices
	}
	query, err := read(r, feed.Parameters)
	if err != nil {
		return err
	}
	if err := h.followers.enter(); err != nil {
		return err
	}
	defer h.followers.leave()
	s := &sender{w: w, conn: http.NewResponseController(w), patience: cmp.Or(h.patience, answerTimeout)}
	// The time for a request has nothing to do with how long somebody follows.
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	err = feed.Run(r.Context(), query, s.send)
	switch {
	case !s.begun && err == nil:
		return s.send(nil)
	case !s.begun:
		return err
	case err != nil && r.Context().Err() == nil:
		s.send(errorLine(err)) // it may be why that cannot be sent, too
	}
	return nil
}

// errorLine ends a feed that something has gone wrong with.
func errorLine(err error) []byte {
	e := &Error{Message: err.Error()}
	errors.As(err, &e)
	line, _ := json.Marshal(e)
	return append(observe.EscapeJSON(line), '\n')
}
