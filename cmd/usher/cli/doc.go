// Package cli is the command line of usher: one file per verb, and one per subject
// of the flags of usher run.
//
// A program of your own becomes an usher with a balancer policy of your own by
// calling Main; see examples/custom-balancer.
//
// Read main.go first. Then the verbs are of three sorts:
//
//   - what runs here: run.go, check.go, config*.go, cleanup.go and demo.go. options.go and
//     options_*.go are the flags of usher run, settings.go, configfile.go and *config.go what else sets them,
//     origin.go who has, and finding.go what is wrong;
//   - what asks the usher of this node, by its admin socket: get.go with get_*.go (one file a
//     kind), describe*.go, status.go, observe*.go, top*.go, explain.go, rules.go and ui.go, and
//     probe.go, which also connects;
//   - what changes something there, as root: drain.go, kill.go, trace.go and rules.go.
//
// output*.go print: tables, JSONPath, and numbers as kubectl writes them. completion.go is what
// a shell may complete. Everything that is printed has passed observe.Printable or
// observe.EscapeJSON, as names may have anything in them.
//
// The exit codes are 0, 1 (it has failed), 2 (no usher can be asked), 3 (the command line
// cannot be meant) and 4 (what was named does not exist).
package cli
