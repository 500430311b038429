// Package observe tells what became of every connection and UDP session.
//
// A Record is the story of one of them. The data path fills it in and hands it
// over exactly once, to Observer.Closed; from there come both the log line and
// the counters, so that they cannot disagree. Only the bytes and datagrams of
// UDP are counted while they pass: a session may last for as long as it likes.
//
// Read record.go first, then reason.go for the words it may end with, and sockets.go for
// what the kernel adds; fields.go, sentence.go and sentence_end.go are its log line, which Formatter (format.go, json.go, text.go)
// writes without a detour. Log (log.go) writes records from a bounded queue in a
// goroutine of its own: when nobody reads the log, records are dropped and
// counted, and connections go on. It leaves out what Sampling (sampling.go) says,
// and writes to a Sink (sink.go), which may be a File (file.go); Writer
// (writer.go) is for messages that are no records. A Ring (ring.go) holds the
// newest records, for those who ask by a Filter (filter.go) and for a Follower.
// Metrics (metrics.go, and metrics_udp.go for what only UDP has) count per Service
// port.
package observe
