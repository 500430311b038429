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
// The server is page.go, which puts together who comes in (doors.go), what browsers are told
// to be careful with (secured.go), the page itself (files.go) and the way to the admin socket
// (forward.go).
//
// The page is in assets/: plain ES modules that no tool has to build. assets/js/main.js is the
// frame, and chooses one of the views in assets/js/views, one file each: overview, services,
// service, flows, map, rules and connections. What they share is beside main.js: api.js asks
// usher, live.js what all of them show, table.js, chart.js and dom.js make elements. Of css,
// base.css has the colours, parts.css what several views are made of, and views.css the rest.
//
// Its tests open every view in a headless Chromium with an invented usher behind it; package
// test/ui does so with a real one.
package ui
