// Package bench measures usher beside its peers, in one run, on the same machine and over the
// same links: figures mean something next to each other and nowhere else.
//
//	make bench-udp
//	go test -run '^$' -bench UDP ./test/bench -rounds=9
//	go test -run '^$' -bench 'UDP/8-sockets/(nginx|usher)' ./test/bench
//
// The client is a bridged pod; the servers are three routed pods with a real DNS server each,
// for a reply from pod to pod of one bridge would pass by the rules of kernel DNAT. A path is
// one way from the client to the servers:
//
//	direct  to one server, by its own address
//	DNAT    to all three, through a Service address that the kernel translates
//	nginx   the same, through an nginx stream proxy behind a redirect rule
//	usher   the same, through usher
//
// Every measurement builds the node, the pods and the path anew and takes them away again, so
// none finds what another one left. The paths take turns, and each round begins with another
// one; ratios are taken within a round, so what slows a whole round down cancels out.
//
// Columns, medians of all rounds:
//
//	queries/s, lost-%     100 queries wait for their answers at a time; the next one
//	                      leaves when one is answered, or lost after a second
//	p50-us, p99-us        latency of that load, in microseconds
//	paced-p50-us, -p99-us latency at a rate that all paths can take (-pace)
//	proxy-cpu-us/query    user and system time of the proxy's processes
//	others-%              share of the processors that other programs took meanwhile;
//	                      what they disturb is measured again (-quiet, -tries)
//	rss-MB, rss-B/session resident memory of the proxy's processes with all sessions;
//	                      and how much it grew, by session
//	slab-B/session        the same for small objects of the kernel: sockets, conntrack
//	fds/session           open files of the proxy
//	a / b                 a of this path divided by that of path b, with the interval
//	                      that holds it with a probability of 95 %
//
// dnsperf, nginx and nsd come from the distribution (install-packages.sh). What is found goes to
// the standard output as a table, and to the folder results as CSV and JSON.
package bench
