// Package handover upgrades usher while it is under load, and looks at what those see who
// talk through it: nothing.
//
// A [site] is a node whose pods serve, with an usher on it; a [load] is everybody who talks
// through that at the same time, each of whom complains about what should not be:
//
//   - streams of bytes both ways, some of them read by nobody for a long time, some half
//     closed, which have to arrive as they were sent;
//   - short requests, a new connection for each;
//   - connections with one statement a second, as to a database;
//   - clients that wait, for an endpoint that does not answer or for their turn at a limit;
//   - clients that have to stay with their endpoint, and endpoints that nobody may get;
//   - datagrams, each with exactly one answer.
//
// What brings everything from one usher to the next is a [carrier]: the load is the same for
// all of them. BenchmarkUpgrade (make bench-upgrade) has more of everything, beside HAProxy and
// nginx, which reload.
package handover
