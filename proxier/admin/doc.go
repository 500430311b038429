// Package admin shows a running usher to those on the same node who may see it:
// HTTP with JSON over a unix socket, and never over TCP.
//
//	usher get endpoints default/web
//	curl --unix-socket /run/usher/usher.sock http://usher/v1/endpoints?service=web
//
// Who may connect, and so read, is said by the mode of the socket: its owner and the
// group usher. What changes something is a POST, and only root and the user whom usher
// runs as may do it:
//
//	usher rules repair
//	curl --unix-socket /run/usher/usher.sock -X POST http://usher/v1/rules/repair
//
// Feeds (/v1/flows) are JSON lines that go on for as long as somebody reads them.
package admin
