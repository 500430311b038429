// Package instant carries times from one process to the next. Only the monotonic clock tells
// how long ago something was, whatever becomes of the time of day, and Go keeps that of each
// time.Time for the process that has made it.
package instant
