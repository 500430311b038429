// Package health tells load balancers and probes how this node is, with the same
// paths, JSON and meaning as kube-proxy, so that existing ones understand.
//
// Proxy is about the process: /healthz, /livez and /readyz. Services is about
// each Service that has a healthCheckNodePort: whether this node has endpoints of
// it. Server bounds what their clients, anybody who can reach the node, may use.
package health
