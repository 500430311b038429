// Package admin shows a running usher to those on the same node who may see it:
// HTTP with JSON over a unix socket, and never over TCP.
//
//	usher get endpoints default/web
//	curl -s --unix-socket /run/usher/usher.sock 'http://usher/v1/endpoints?service=default/web'
//
// Who may connect, and so read, is said by the mode of the socket: its owner and the
// group usher. What changes something is a POST, and only root and the user whom usher
// runs as may do it:
//
//	usher rules repair
//	curl -s --unix-socket /run/usher/usher.sock -X POST http://usher/v1/rules/repair
//
// # What can be asked
//
// Each line is a method, a path, the parameters of its query, and what comes back: a value of
// this package as JSON, [] for a list.
//
//	GET  /v1/status                                                    Status
//	GET  /v1/config                                                    []Setting, as in the help of usher run
//	GET  /v1/attention                                                 []Attention, the worst first
//	GET  /v1/services     namespace service                            []Service
//	GET  /v1/endpoints    namespace service                            []ServicePort
//	GET  /v1/listeners    namespace service                            []Listener
//	GET  /v1/traffic                                                   TrafficNow
//	GET  /v1/map                                                       Talk
//	GET  /v1/connections  namespace service pod client limit id        Connections, the oldest first
//	GET  /v1/sessions     namespace service pod client limit           Sessions, the oldest first
//	GET  /v1/rules                                                     []CapturedBy
//	GET  /v1/rules/diff                                                []RuleDifference
//	GET  /v1/explain      namespace service port protocol family from vip    Explanation
//	GET  /v1/drained                                                   []Drained
//	GET  /v1/flows        namespace service pod client reason side errors since last follow    feed of Flow
//	POST /v1/trace        client namespace service duration            feed of TraceEvent
//	POST /v1/upgrade                                                   feed of steps; it ends with the process
//	POST /v1/take-over    node network                                 Parcel of package handover, by handover.Give
//	POST /v1/rules/repair                                              Repair
//	POST /v1/drain        endpoint pod namespace service               []Drained
//	POST /v1/undrain      endpoint pod namespace service all           []Drained
//	POST /v1/kill         id backend pod client service namespace older all dry-run    Killed
//
// A service is NAME, of the namespace if there is one, or NAMESPACE/NAME; a client is an
// address or a CIDR; a pod is NAME or NAMESPACE/NAME, for drain, undrain and kill always both.
// What is left out does not filter. Other parameters are those of observe.ParseFilter, and:
//
//	limit     how many to tell, 0 to 100000 (default 1000)
//	last      how many flows that have ended to begin with (default 100)
//	follow    true: go on with those to come
//	port      name or number of a Service port; protocol: tcp or udp; family: IPv4 or IPv6
//	from      address of the client that is thought of (default: a process of the node)
//	vip       address of the Service that it dials, as IP or IP:port (default: the ClusterIP)
//	duration  how long a trace goes on, as in 5m (default 30s, at most 1h)
//	endpoint  IP:port or IP; backend likewise
//	older     of connections that have lasted for longer, as in 1h
//	all       true: all of them, in place of everything else that chooses
//	dry-run   true: only tell what would be ended
//	node      the name of the Node that the other process serves; network: its network namespace
//
// A feed is JSON lines (NDJSON), a flow or an event a line. It may go on for as long as
// somebody reads it. Flows come the oldest first, with the keys of RECORDS.md in package
// observe; a line {"lost":N} stands for N of them that this reader was too slow for, and a
// trace counts such events in the key lost of the next one. A line {"error":"..."} is the last
// one of its feed.
//
//	curl -sN --unix-socket /run/usher/usher.sock 'http://usher/v1/flows?follow=true&errors=true'
//	curl -s  --unix-socket /run/usher/usher.sock 'http://usher/v1/explain?service=default/web&port=80'
//	curl -s  --unix-socket /run/usher/usher.sock -X POST 'http://usher/v1/drain?endpoint=10.244.1.7:8080'
//
// /v1/take-over is for another process of usher (usher run --take-over): it leaves HTTP for a
// protocol in which files go along (101 Switching Protocols).
//
// # What goes wrong
//
// Every other answer than 200 is {"error": "..."}, a sentence: 400 for a parameter that is
// unknown or means nothing, 403 for who may not, 404 for what does not exist, 405 for another
// method, 409, 426, 429 and 503 for what is not possible now, as when as many follow as may.
//
// # Reading the code
//
// server.go decides who gets an answer, feed.go serves feeds, exchange.go leaves HTTP, peer.go knows who asks, socket.go
// makes the socket, and client.go asks. All other files are the answers, one subject each.
// Package proxier makes them. The page of usher ui (package ui) reads the same paths.
package admin
