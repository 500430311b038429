// Package tcptest has the connections that tests of package tcp's users need. It is for
// tests only.
package tcptest
