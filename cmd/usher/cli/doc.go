// Package cli is the command line of usher: one file per verb, and one per subject
// of the flags of usher run.
//
// A program of your own becomes an usher with a balancer policy of your own by
// calling Main; see examples/custom-balancer.
package cli
