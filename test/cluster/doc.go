// Package cluster tests usher in a cluster with a real control plane: etcd, the
// Kubernetes API server and kubectl, and a node whose pods and whose client
// outside are network namespaces with real curl processes in them.
//
// Each test is a story on a node and a control plane of its own, which start in
// two seconds, so that an API server may die in one and rules be left in another.
// What the rules of a Service are is told by the conformance cases, which run
// here too; the stories tell what becomes of the proxy as its cluster changes.
package cluster
