// Package source delivers the Kubernetes objects that usher serves: Services,
// EndpointSlices and the own Node.
//
// There are two sources. API lists and watches an API server. Manifests reads
// plain YAML files and watches them; it needs no cluster. Both keep the last
// state when their origin fails: an API server that is away, or a file with a
// typing error, takes no Service down.
//
// # Who owns what
//
// Run owns every goroutine of a source; all have ended when it returns. The
// informers own the caches of API. The loader owns everything Manifests knows
// about its files; only NewManifests and then Run use it, and publish its
// result as one pointer. The consumer owns nothing: what Objects returns is
// shared and read-only.
//
// # Where to begin reading
//
// source.go has the contract. Then, for the API server:
//
//	restconfig.go   address and credentials
//	apiaddress.go   why usher cannot reach the API through its own Service
//	filter.go       which objects are ours
//	client.go       clients without client-go's clientset
//	api.go          informers, and when the lists are complete
//	apistate.go     what is known now: from the lists, or from the last state
//	listwatch.go    one list and watch
//	outage.go       what to say when they fail
//	contact.go      when the API server last sent something of each kind
//	watches.go      the same for those who ask
//	laststate.go    when the last state is kept in a file, and when it is served
//	laststate/      that file
//	strip.go        what is not worth keeping, and what is no change
//	events.go       Kubernetes Events
//	klog.go         client-go's own log lines
//
// And for files, in the order in which a byte travels:
//
//	manifests.go    the loop: wait for a change, load, publish
//	watch.go        which folders to watch for a path, through all symlinks
//	loader.go       one load: paths to objects
//	files.go        a path becomes files, within bounds
//	documents.go    a file becomes documents, each with its first line
//	parse.go        a document becomes a tree; what syntax errors mean
//	tree.go         walking such a tree
//	typecheck.go    unknown fields and wrong types, all of them
//	lines.go        the line of a field
//	decode.go       a tree becomes objects
//	object.go       the kinds that are read
//	defaults.go     what an API server would have filled in
//	validate*.go    what an API server would have refused
//	endpoints.go    legacy Endpoints become EndpointSlices
//	merge.go        files become one state: who wins, and what stays
//	claims.go       frontends that only one Service may have
//	problems.go     each mistake is told once, and once more when it is mended
//	lint.go         the same mistakes, for one who only wants to know them
package source
