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
//	api.go          informers, when the lists are complete
//	listwatch.go    one list and watch; what to say when it fails (outage.go)
//	events.go       Kubernetes Events
//	klog.go         client-go's own log lines
//
// And for files, in the order in which a byte travels:
//
//	manifests.go    the loop: wait for a change, load, publish
//	watch.go        which folders to watch for a path, through all symlinks
//	files.go        a path becomes files, within bounds
//	documents.go    a file becomes documents, each with its first line
//	decode.go       a document becomes objects (tree.go, typecheck.go, lines.go)
//	defaults.go     what an API server would have filled in
//	validate*.go    what an API server would have refused
//	endpoints.go    legacy Endpoints become EndpointSlices
//	merge.go        files become one state: who wins, what stays (claims.go)
//	problems.go     each mistake is told once, and once more when it is mended
package source
