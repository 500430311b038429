// Package outlier finds out which ready endpoints are better left out for a while,
// because connections to them fail or because they say so when asked.
//
// A Detector does it for one Service port and address family, by two judges. An
// endpoint is in while neither speaks against it:
//
//	connections (Passive, Detector.Report)
//
//	        Failures in a row                  back-off over
//	   in ---------------------> backing off ----------------> probed --+ good:
//	    ^                             ^                          |      | back in,
//	    |                             |   bad: twice as long     |      | at once
//	    |                             +-----------(up to Max)----+      |
//	    +---------------------------------------------------------------+
//
//	checks (Check, if the Service asks for them)
//
//	        Fall bad ones in a row
//	   in ------------------------> failed
//	    ^  Rise good ones in a row    |
//	    +-----------------------------+
//
// The back-off doubles from one ejection to the next. Every Max of good time takes
// one doubling back. A connection that succeeds is as good as a probe, so it ends
// the back-off: an endpoint that is out may still get some, see below.
//
// A probe is one connection attempt over TCP. If there is a Check, it is the probe:
// the first good one after the back-off ends it, and bad ones do not lengthen it,
// so that an endpoint that has come back need not wait for more than its check. UDP
// without a Check cannot be probed: the endpoint comes back after the back-off.
//
// # Out is not withheld
//
// A set of endpoints (those of the cluster, those of this node) withholds at most
// MaxEjected of its members, rounded down, and never the last one: when everything
// looks bad it is more likely that the judge is wrong. Those that went out first
// are withheld, the others stay in use, and Detector.Status says so. Even a
// withheld one is picked when nothing else is left to try.
//
// # What an endpoint is told and asked
//
// Checks go to the endpoint's own address, to no other, from the first one spread
// over the interval and then 20 % early or late at random. A new endpoint is in
// before its first check: Kubernetes has said that it is ready. What is known of
// one that leaves is kept for five minutes, or until its back-off ends, so that
// it cannot clear itself by a restart of its readiness.
//
// What is known outlives the process, too: [Detector.State] tells it, and
// [Detector.Restore] has the Detector of the next process go on with it.
//
// What fails for reasons of this process (no file descriptors, no ports, no memory)
// says nothing of an endpoint and changes nothing, but that it is asked again.
//
// A Prober asks for all Detectors of the process. An endpoint that waits for its
// next check is an entry in a heap; only while it is asked it has a goroutine and
// a socket.
package outlier
