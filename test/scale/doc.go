// Package scale measures usher at 10,000 Services and 50,000 endpoints, in a cluster with a real
// API server, beside kube-proxy in nftables mode: in one run, on the same machine and with the
// same objects.
//
//	make bench-scale
//	USHER_SCALE_SERVICES=2000 go test -run '^$' -bench Scale ./test/scale
//
// Each Service has a ClusterIP, one TCP port and one EndpointSlice with five endpoints. There are
// no controllers; the benchmark writes both. All endpoints are real: a server outside of the
// nodes answers at every address of 10.0.0.0/12, and says at which. It is in this process, as
// are the clients, one pod on each node. Control plane, proxies, servers and clients share the
// processors: figures mean something next to each other and nowhere else.
//
// usher is on one node and kube-proxy on another one, one at a time. They start in turns, and each
// is measured further after its last start. kube-proxy has its defaults but for minSyncPeriod, 10ms
// instead of 1s, so that what it takes for a change is its own. usher has its defaults.
//
// What the table says:
//
//	start            from before the process begins until the Service of the greatest number
//	                 and 20 others have answered a connection, one after the other
//	lists complete   usher's log line "... has N Services to serve"; rules written: its metric
//	                 usher_sync_last_success_timestamp_seconds
//	Service added    from before the Service is sent to the API server, which has its slice
//	                 already, until a connection is answered; the API server's own time for it
//	                 is part of that, and printed below. A hundred times, with pauses
//	endpoints        from before a slice with five other addresses is sent until one of them
//	changed          answers; old endpoints that answer afterwards are counted
//	new connections  of eight clients, each with its answer. The figure with one Service is that
//	                 of a second usher on the other node, which serves only one by its
//	                 --service-proxy-name; both have their turn in each round
//	churn            Services and slices come, change and go at 100 writes a second for a minute;
//	                 200 connections a second to one Service that stays begin when they are due,
//	                 and take from then on
//	resident memory  VmRSS and VmHWM of the process; CPU time is also that of the programs that it
//	                 runs, iptables-restore and nft
//
// p99 of a hundred is the greatest. Who looks for a change connects every 2 ms, or every 20 ms where
// nobody answers: kube-proxy drops connections to an address that it does not know yet.
//
// The environment says more:
//
//	USHER_SCALE_SERVICES     how many Services, 10000 by default
//	USHER_SCALE_USHER_FLAGS  further flags of usher
//	USHER_SCALE_USHER_ONLY   if it is set, kube-proxy is left out
//	USHER_SCALE_RESULTS      folder for the table, and all samples as JSON
//	USHER_SCALE_PROFILE      folder for a CPU profile of a start that is not measured, and one of
//	                         the heap in the end
//
// Ten thousand listeners need as many files, and usher raises its limit as far as it may
// (ulimit -Hn).
package scale
