// Package health answers /healthz and /livez with the same JSON and the same
// meaning as kube-proxy, so that existing probes and load balancers understand.
package health
