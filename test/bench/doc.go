// Package bench measures usher beside its peers, in one run, on the same machine and over the
// same links: figures mean something next to each other and nowhere else.
//
//	make bench-tcp
//	make bench-udp
//	go test -run '^$' -bench UDP ./test/bench -rounds=9
//	go test -run '^$' -bench 'TCP/keep-alive/(nginx|usher)' ./test/bench -rounds=3
//
// The client is a bridged pod; the servers are routed pods, for a reply from pod to pod of one
// bridge would pass by the rules of kernel DNAT. A path is one way from the client to them:
//
//	direct   to one server, by its own address
//	DNAT     to all of them, through a Service address that the kernel translates
//	nginx    the same, through an nginx stream proxy behind a redirect rule, with two workers
//	HAProxy  the same, through HAProxy with two threads and splice-auto; TCP only
//	usher    the same, through usher with its defaults
//
// Each proxy writes a line of each connection to a file. kube-proxy is not among them, as it
// needs an API server; package scale has it.
//
// Every measurement builds the node, the pods and the path anew and takes them away again, so
// none finds what another one left. The paths take turns, and each round begins with another
// one; ratios are taken within a round, so what slows a whole round down cancels out.
//
// # TCP
//
// The loads are the first element of a benchmark's name, paths the second:
//
//	keep-alive       wrk with 32 connections, each with one request at a time; three nginx
//	                 servers answer three bytes
//	one-connection   the same with one
//	new-connections  the same with 32 at a time, each for one request
//	bulk-1, bulk-4   iperf3 with so many streams, to one server: a test has a connection for
//	                 control, which must lead to the same one
//	idle             connections (-idle) on which one request was answered, held by a process of
//	                 its own; in fewer rounds (-idle-rounds), as memory hardly varies
//	beside-idle      keep-alive without and then with idle connections (-beside) on the same proxy
//	services         usher alone with one Service, and with more (-services): keep-alive, then
//	                 new connections
//
// Columns, medians of all rounds:
//
//	requests/s, p50-us, p99-us    answers, and their latency in microseconds
//	connections/s, new-p99-us     new connections; their latency is that of the request, and
//	                              so has the proxy's connect in it but not the client's
//	proxy-cpu-us/request          user and system time of the proxy's processes
//	proxy-cpu-us/connection
//	Gbit/s, proxy-cpu-s/GB        what servers received
//	retransmits/GB                segments that the client sent again. Also without a proxy there
//	                              are some, where a sender is faster than a receiver: on two
//	                              processors a path with a proxy was seen ahead of direct
//	held                          idle connections that there were: a proxy with six files for
//	                              each does not get to 8,000 with 20,000 files
//	pss-B/, rss-B/connection      growth of the memory of the proxy's processes
//	slab-B/connection             growth of the kernel's small objects: sockets and conntrack,
//	                              also of the client and the servers; direct has only these
//	fds/connection                open files of the proxy
//	beside-p99-us                 of the load with idle connections
//	beside-cpu-us/request
//
// A path that is at its limit with fewer idle connections than asked for has no load beside them.
//
// # UDP
//
// Three real DNS servers answer. Columns, medians of all rounds:
//
//	queries/s, lost-%     100 queries wait for their answers at a time; the next one
//	                      leaves when one is answered, or lost after a second
//	p50-us, p99-us        latency of that load, in microseconds
//	paced-p50-us, -p99-us latency at a rate that all paths can take (-pace)
//	proxy-cpu-us/query    user and system time of the proxy's processes
//	rss-MB, rss-B/session resident memory of the proxy's processes with all sessions;
//	                      and how much it grew, by session
//	slab-B/session        the same for small objects of the kernel: sockets, conntrack
//	fds/session           open files of the proxy
//
// # Both
//
//	others-%              share of the processors that other programs took meanwhile;
//	                      what they disturb is measured again (-quiet, -tries)
//	a / b                 a of this path divided by that of path b (or by its own b), with the
//	                      interval that holds it with a probability of 95 %
//
// wrk, iperf3, dnsperf, nginx, HAProxy and nsd come from the distribution
// (install-packages.sh). What is found goes to the standard output as a table, and to the folder
// results as text, CSV and JSON, and as a plot (SVG) of each load: medians, and the intervals that
// hold them with a probability of 95 %, as far as there are six rounds.
package bench
