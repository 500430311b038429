// Package observe tells what became of every connection.
//
// A Record is the story of one connection. The data path fills it in and hands
// it over exactly once, to Observer.Closed; from there come both the log line
// and the counters, so that they cannot disagree.
//
// Read record.go first, then reason.go for the words it may end with. Log
// (log.go) writes records from a bounded queue in a goroutine of its own: when
// nobody reads the log, records are dropped and counted, and connections go on.
package observe
