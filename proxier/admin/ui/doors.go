package ui

import (
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// doors decide who comes in.
type doors struct {
	hosts  []string // by which a browser may call this server
	cookie string   // its name; cookies know no ports, so that two pages need two
	token  string   // of the address that was printed
	secret string   // of the cookie that the token is exchanged for

	mu   sync.Mutex
	used bool // the token
}

func newDoors(port int) *doors {
	d := &doors{cookie: fmt.Sprintf("usher-ui-%d", port), token: rand.Text(), secret: rand.Text()}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]"} {
		d.hosts = append(d.hosts, host+":"+strconv.Itoa(port))
	}
	return d
}

// guard has next serve only what the page that was opened here asks for.
func (d *doors) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !slices.Contains(d.hosts, r.Host):
			refuse(w, "This is not the name of the page that <code>usher ui</code> serves.")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page only reads", http.StatusMethodNotAllowed)
		case foreign(r):
			refuse(w, "Another site has led here. Copy the address that <code>usher ui</code> has printed into the address bar.")
		case d.known(r):
			if r.URL.Path == "/" && r.URL.RawQuery != "" { // such as a token that is of no use any more
				http.Redirect(w, r, "/", http.StatusSeeOther)
				return
			}
			next.ServeHTTP(w, r)
		case d.admits(r):
			http.SetCookie(w, &http.Cookie{Name: d.cookie, Value: d.secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			http.Redirect(w, r, "/", http.StatusSeeOther)
		default:
			refuse(w, "The address works once, in one browser. Run <code>usher ui</code> again: it prints another one.")
		}
	})
}

// foreign says whether the browser tells of another origin. Fetch Metadata (W3C) also
// tells pages on other ports of the same host apart, which SameSite does not.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	origin := r.Header.Get("Origin")
	return site != "" && site != "same-origin" && site != "none" || origin != "" && origin != "http://"+r.Host
}

// known says whether the request has the cookie.
func (d *doors) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(d.cookie) {
		if equal(c.Value, d.secret) {
			return true
		}
	}
	return false
}

// admits says whether the request has the token, for the first time.
func (d *doors) admits(r *http.Request) bool {
	if r.Method != http.MethodGet || r.URL.Path != "/" || !equal(r.URL.Query().Get("token"), d.token) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.used
	d.used = true
	return first
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

//go:embed refused.html
var refused string

// refuse says why, in HTML that nobody else has had a hand in.
func refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusForbidden)
	io.WriteString(w, fmt.Sprintf(refused, why))
}
