// Package laststate keeps the objects that an API server last told in a file, for a start
// while no API server answers.
//
// # The file
//
// The first line says what it is, and in which format:
//
//	usher last state 1
//
// The rest is one gzip stream, whose own checksum and length tell a file that is damaged or
// cut off. In it each record is a letter, the length of what follows as a varint, and that:
//
//	H   whose state this is and as of when, as JSON
//	S   a Service, E an EndpointSlice, N the own Node: each as the API's protobuf
//	.   the end: nothing
//
// tail -n +2 FILE | zcat | head -c 300 shows the header.
//
// # What is in it, and for whom
//
// There are only objects of these three kinds, as the informers keep them: no managed
// fields, no annotations or labels but those that usher reads, and nothing secret. Whoever
// may write the file decides where connections go, so one that others than its owner may
// write, or that belongs to somebody else than this process or root, is not read.
//
// [Write] replaces the file as a whole: who reads it, or loses power, has the old one or the
// new one. It is the caller who decides when. Neither function is safe for concurrent use on
// one path.
//
// # Where to begin reading
//
//	state.go    what is kept, and of whom
//	encode.go   a state becomes a stream
//	decode.go   a stream becomes a state, or a fault
//	file.go     the stream becomes a file, within bounds
package laststate
