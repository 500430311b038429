package ui

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// upstreamLimit is how many connections to the admin socket there may be, which has
// places for others too.
const upstreamLimit = 32

// forward passes requests on to the admin socket. ReverseProxy flushes each piece of an
// answer of unknown length, so that the lines of a stream come through at once.
func forward(socket string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "usher", "usher"
			r.Out.Header = http.Header{"Accept": {"application/json"}} // the cookie stays here
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
			MaxConnsPerHost: upstreamLimit, MaxIdleConnsPerHost: upstreamLimit,
			IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		},
		ModifyResponse: onlyContent,
		ErrorHandler:   unreachable,
		ErrorLog:       log.New(io.Discard, "", 0), // the page says what is wrong
	}
}

// onlyContent leaves of the headers what is about the content. All others are ours.
func onlyContent(r *http.Response) error {
	maps.DeleteFunc(r.Header, func(name string, _ []string) bool {
		return name != "Content-Type" && name != "Content-Length" && name != "Allow"
	})
	return nil
}

// unreachable answers instead of a usher that does not.
func unreachable(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	json.NewEncoder(w).Encode(admin.Error{Message: err.Error()})
}
