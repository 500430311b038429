// Package proxier makes the Services of a cluster work on one node, from user
// space.
//
// # The way of a change
//
//  1. An object changes: the source wakes the loop (Proxier.loop).
//  2. The whole desired state is computed from the objects: desiredPorts, a pure
//     function from Services, EndpointSlices and this node to a list of Port.
//  3. Each Port is compared with its listener: sockets are opened, the picker of
//     a changed one is swapped by one atomic store (Proxier.servePort).
//  4. One batch makes the kernel lead every frontend to its listener
//     (capture.apply). Only then what is not needed any more is closed
//     (Proxier.retire).
//
// The listener and its picker exist before the rule that leads to them, and the
// rule is gone before the listener. A step that fails is tried again by the next
// pass, from the full state; nothing depends on the order of events.
//
// # The way of a byte
//
//  5. A connection arrives: acceptLoop gives it a goroutine (listener.accept) and
//     never dials itself.
//  6. connection.admit finds out which frontend the client has dialled.
//  7. dialer.dial picks an endpoint and connects; when that fails it picks another
//     one, within a budget of attempts and time.
//  8. Package relay copies both ways; connection.end tells the record to package
//     observe, whatever the end was.
//
// # Who owns what
//
// The loop owns the map of listeners and everything in the kernel. A listener
// owns its sockets; whether a socket listens is the answer that clients get, so
// endpoints that come and go never touch a rule. A connection owns its two
// sockets, and nobody else closes them. The capture is one of two: redirect
// (capture_iptables.go) or bind (capture_bind.go).
//
// Read port.go for the words, proxier.go for the loop, connection.go for the
// data path.
package proxier
