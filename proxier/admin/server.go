package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// View is what can be seen at a path.
type View struct {
	Parameters []string // of the query
	// Show returns what becomes the JSON. It may be called from several goroutines. An
	// *Error says itself which status it has; any other is ours.
	Show func(url.Values) (any, error)
}

// Action is what can be done at a path, by root and by whom the process runs as.
type Action struct {
	Parameters []string // of the query
	// Do returns what becomes the JSON. It may be called from several goroutines, and
	// ends with the client's patience.
	Do func(context.Context, url.Values) (any, error)
}

// Error is an answer that is none.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

const (
	// connectionLimit is how many clients there may be at a time; those beyond are
	// hung up on.
	connectionLimit = 64
	requestTimeout  = 10 * time.Second
	answerTimeout   = 30 * time.Second
	idleTimeout     = time.Minute
	headerBytes     = 8 << 10
)

// API is what is served, by its paths.
type API struct {
	Views   map[string]View
	Actions map[string]Action
	Feeds   map[string]Feed
	// Exchanges are for other processes of usher.
	Exchanges map[string]Exchange

	patience time.Duration // with a client of a feed that takes nothing; 0: answerTimeout
}

// Server serves all of it.
func (a API) Server() *http.Server {
	var open atomic.Int64
	return &http.Server{
		Handler:     handler{a, new(followers)},
		ConnContext: withPeer,
		ReadTimeout: requestTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerBytes,
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if open.Add(1) > connectionLimit {
					c.Close()
				}
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
}

type handler struct {
	API
	followers *followers
}

var errBody = &Error{http.StatusBadRequest, "parameters belong into the query: a body is not read"}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // somebody means something by it; and net/http looks for a client that has gone after it only
		respond(w, nil, errBody)
		return
	}
	if feed, ok := h.Feeds[r.URL.Path]; ok {
		if err := h.serveFeed(w, r, feed); err != nil {
			respond(w, nil, err)
		}
		return
	}
	if exchange, ok := h.Exchanges[r.URL.Path]; ok {
		if err := h.serveExchange(w, r, exchange); err != nil {
			respond(w, nil, err)
		}
		return
	}
	answer, err := h.answer(w, r)
	respond(w, answer, err)
}

// respond answers with JSON, in which nothing is left that could be a command to the
// terminal of somebody who prints it.
func respond(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	body, failed := json.Marshal(answer)
	if err = errors.Join(err, failed); err != nil {
		e := &Error{http.StatusInternalServerError, err.Error()}
		errors.As(err, &e)
		status = e.Status
		body, _ = json.Marshal(e)
	}
	setHeaders(w, "application/json")
	w.WriteHeader(status)
	w.Write(append(observe.EscapeJSON(body), '\n'))
}

func setHeaders(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

var errNotRoot = &Error{http.StatusForbidden, "only root may do that"}

func (h handler) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	view, isView := h.Views[r.URL.Path]
	action, isAction := h.Actions[r.URL.Path]
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !isView && !isAction:
		return nil, &Error{http.StatusNotFound, fmt.Sprintf("there is no %q", r.URL.Path)}
	case isView && !read:
		w.Header().Set("Allow", "GET, HEAD")
		return nil, &Error{http.StatusMethodNotAllowed, fmt.Sprintf("%s is for GET", r.URL.Path)}
	case isView:
		query, err := parameters(r, view.Parameters)
		if err != nil {
			return nil, err
		}
		return view.Show(query)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		return nil, &Error{http.StatusMethodNotAllowed, fmt.Sprintf("%s is for POST", r.URL.Path)}
	case !mayChange(r.Context()):
		return nil, errNotRoot
	}
	query, err := choices(r, action.Parameters)
	if err != nil {
		return nil, err
	}
	return action.Do(r.Context(), query)
}

// choices are the parameters of a change. None is empty, as one that a script has left so
// would choose all; and none but id comes twice, as only one of them would count.
func choices(r *http.Request, known []string) (url.Values, error) {
	query, err := parameters(r, known)
	for name, values := range query {
		switch {
		case slices.Contains(values, ""):
			return nil, &Error{http.StatusBadRequest, fmt.Sprintf("%s is empty: say which, or leave it out", name)}
		case len(values) > 1 && name != "id":
			return nil, &Error{http.StatusBadRequest, fmt.Sprintf("%s is there %d times, and may be once", name, len(values))}
		}
	}
	return query, err
}

// parameters are those of the query, of which only some are known.
func parameters(r *http.Request, known []string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &Error{http.StatusBadRequest, err.Error()}
	}
	for name := range query {
		if !slices.Contains(known, name) {
			return nil, &Error{http.StatusBadRequest,
				fmt.Sprintf("%s has no parameter %q, only: %s", r.URL.Path, name, strings.Join(known, ", "))}
		}
	}
	return query, nil
}
