// Package ui is a page in the browser about a running usher. It is served on a loopback
// address for as long as somebody wants to look, and passes what the page asks for on to
// the admin socket. It only reads.
//
//	usher ui
//
// Whoever has the address that Open has made may look, once: its token is exchanged for a
// cookie. Every other request is refused, and so is one that comes from another site or
// that names another host (DNS rebinding).
//
// The page itself is in assets/: plain ES modules, begin with assets/js/main.js.
package ui
