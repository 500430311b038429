// Package admin shows a running usher to those on the same node who may see it:
// HTTP with JSON over a unix socket, and never over TCP.
//
//	usher get endpoints default/web
//	curl --unix-socket /run/usher/usher.sock http://usher/v1/endpoints?service=web
//
// Who may connect is said by the mode of the socket: its owner and the group usher.
// All that there is so far reads.
package admin
