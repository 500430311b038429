// Package policies shows what the balancer policies, and all that helps them, make of endpoints
// that are slow, refuse, come and go, or are silent.
//
//	make bench-endpoints
//	go test -run '^$' -bench . ./test/policies
//	go test -run '^$' -bench Blackhole ./test/policies -for=20s
//
// usher serves one Service in bind capture, in a network namespace of its own. Its endpoints are
// servers with an address each of 127.2.0.0/16, the clients come from ever other addresses of
// 127.16.0.0/12. All of them are in this process, so that what one of them takes of the
// processors the others lack: times mean something next to each other and nowhere else, and less
// the more other programs do meanwhile, which is said above each table. The settings are the
// defaults but for the back-off of passive health, 1 s and later 2 s, so that something comes back
// while one looks.
//
// # Policies
//
// Clients that ask one question after the other, at 20 endpoints: 17 that are good, and before
// them in the order of addresses, which is the worst for the policy first, one that refuses, one
// that flaps (up for 1.5 s, down for 1.5 s) and one that is ten times slower than the good ones.
// Half-way the one that refuses is repaired. The row "no bad endpoint" is round-robin over 20 good
// ones.
//
//	good-%, slow-%, ...    share of the connections; good is the mean of those
//	connect-p50-ms, -p99   from accept until an endpoint stood, all attempts included
//	first-byte-p50-ms, ... from before the client's connect to the first byte of its answer
//	failed                 connections without their answer
//	refused, flap-refused  attempts that the endpoint that refuses has refused, and the one that flaps
//	stops-ms               when the one that refuses was chosen last before its repair
//	ejected-ms             when passive health has left it out; "no": it never had to
//	again-ms               from its repair until it was chosen again
//	back-%                 its share of the connections from then on
//
// # Blackhole
//
// New clients at a steady rate, at four endpoints by round-robin, one of which answers no SYN.
//
//	connect-p50-ms, -p99  as above, of those accepted until the silent endpoint was ejected
//	attempts              connections that have tried it until then
//	ejected-ms            when that was
//	then-p50-ms, -p99     connect of those accepted later
//	failed                connections without their answer
//	no-budget             connections that were due another attempt and got none
//
// # Movement
//
// 100,000 clients at 100 endpoints: how many of a hundred have another endpoint than before when
// one of the endpoints leaves, when it is back, and when usher has restarted; and how many
// clients the busiest endpoint has, of the mean.
//
// # Picks
//
// 1,000,000 picks with their answer and end, of 20 endpoints that have five other connections
// each: by one goroutine, and shared among as many as there are processors; the time is that of
// all by the number of picks. BenchmarkPick of package balancer has more of that.
//
// The tables go to the standard output, ready for Markdown, and as CSV to test/bench/results.
package policies
