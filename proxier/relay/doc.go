// Package relay moves the bytes of one connection between client and endpoint.
//
// Each direction is one io.Copy between two bare *net.TCPConn, which the
// runtime turns into splice(2): the bytes never enter user space. What one peer
// does is done to the other: a FIN becomes a half-close, a reset becomes a reset
// once everything read before it has been delivered.
//
// Run owns both connections and has closed them when it returns.
package relay
