// Package reasons proves that usher tells the right reason for the end of a connection or
// UDP session: for every reason of package observe there is at least one scenario in which
// a client, an endpoint or the kernel does that thing on purpose, on real sockets.
//
//	go test -v -run TestEveryReasonIsRecognised ./test/reasons
//
// prints the table: reason, scenario, expected, got. A reason without a scenario fails the
// test, so that a new one needs a new one.
package reasons
