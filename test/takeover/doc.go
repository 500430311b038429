// Package takeover has one usher take over from another one on a node (usher run --take-over),
// under load and with everything that can go wrong between the two: real processes, in network,
// PID and mount namespaces as a DaemonSet's Pods have them.
//
// The load is that of package load; scene_test.go is the node and its processes. Others speak the
// protocol instead of usher in peer_test.go, to stop at a certain word of it.
package takeover
