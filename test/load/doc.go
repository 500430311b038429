// Package load is what talks through usher while something is done to it: one load for all the
// ways in which usher is replaced.
//
// A [Site] is a node whose pods serve, with an usher that the test starts; a [Load] is everybody
// who talks through that at the same time, each of whom complains about what should not be:
//
//   - streams of bytes both ways, some of them read by nobody for a long time, some half
//     closed, which have to arrive as they were sent, by checksum;
//   - short requests, a new connection for each;
//   - connections with a statement now and then, as to a database;
//   - datagrams, each with exactly one answer, all of a socket's in the same session;
//   - and in a [Whole] load clients that wait, for an endpoint that does not answer or for their
//     turn at a limit, clients that have to stay with their endpoint, and endpoints that nobody
//     may get.
//
// What brings everything from one usher to the next is a [Carrier]: [UnderLoad] is the test of
// each of them, twice in a row or as often as -upgrades says.
package load
