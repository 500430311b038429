// Package preflight looks whether usher can do its work on this node, before it is
// started, and says what to do where it cannot.
//
// Each check looks at one thing and returns one [Result]. None changes anything that
// stays: some write a rule or open a socket and take it away again, as usher itself
// does at its start. What an ordinary user cannot know is a WARN that says so.
//
// Forwarding (net.ipv4.ip_forward) is looked at for --capture=bind only, and for refusals:
// connections end at usher, which is served without; the network between pods may need it
// all the same.
//
// All checks work in the network namespace of the calling thread.
package preflight
