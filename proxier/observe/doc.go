// Package observe tells what became of every connection and UDP session.
//
// A Record is the story of one of them. The data path fills it in and hands it
// over exactly once, to Observer.Closed; from there come both the log line and
// the counters, so that they cannot disagree. Only the bytes and datagrams of
// UDP are counted while they pass: a session may last for as long as it likes.
//
// RECORDS.md documents every key and every reason for those who read logs; go generate
// makes it.
//
// Read record.go first, then reason.go for the words it may end with, and sockets.go for
// what the kernel adds. Its log line is made of fields.go, sentence.go and sentence_end.go;
// Formatter (format.go, json.go, text.go) writes it without a detour. Then where records go:
//
//   - Log (log.go) writes them from a bounded queue in a goroutine of its own: when nobody
//     reads the log, records are dropped and counted, and connections go on. sampling.go
//     says which are left out. It writes to a Sink (sink.go), which may be a File (file.go);
//     Writer (writer.go) is for messages that are no records.
//   - Ring (ring.go) holds the newest, for those who ask by a Filter (filter.go) and for a
//     Follower. Lines (line.go) makes the line of each once for several followers.
//   - Metrics (metrics.go, metrics_udp.go, metrics_log.go) count per Service port, in a
//     bounded number of series (series.go, folding.go); numbers.go tells the same counts to
//     the admin API.
//
// Names and errors may have anything in them: escape.go makes text safe for a terminal.
package observe

//go:generate go test -run TestMarkdown -update .
