// Package usher runs the usher binary inside a namespace of the test lab, and
// reads what it tells: its log, and the record of every connection.
package usher
