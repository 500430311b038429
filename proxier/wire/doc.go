// Package wire is how the state of a connection is written for another process: as messages
// of numbered fields, in the encoding of Protocol Buffers. A reader skips fields that it does
// not know, and what is zero is not written, so that versions of usher understand each other.
// Thousands of connections wait while they are written and read: there is no reflection.
//
//	w.Uint(1, uint64(c.Port))
//	w.Message(2, c.Record.Append)
//	...
//	for r.Next() {
//		switch r.Field {
//		case 1:
//			c.Port = uint16(r.Uint())
//		case 2:
//			r.Message(c.Record.Read)
//		}
//	}
//	return r.Err
package wire
