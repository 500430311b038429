// Package annotation reads what a Service asks for by annotations: those that
// begin with usher-proxy.io/. The fields of a Service always come first;
// annotations say what no field can.
//
// Every annotation is judged alone. One that means nothing becomes a [Fault] and
// the default counts in its place; the Service is served all the same.
//
// table.go has all annotations, ANNOTATIONS.md the same for their users.
package annotation

//go:generate go test -run TestMarkdown -update .
