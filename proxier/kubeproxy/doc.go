// Package kubeproxy finds what kube-proxy has put into the kernel of this node,
// tells whether kube-proxy still runs, and removes what it has left.
//
// Its modes leave different traces. Mode iptables: chains in the tables nat, filter
// and mangle of both families, of the backend that its own iptables has. Mode ipvs:
// some chains there as well, the interface kube-ipvs0 with the addresses of all
// Services, virtual servers and ipsets. Mode nftables: a table kube-proxy in both
// families. Two modes may be there at once, if the second kube-proxy could not
// clean up after the first. The sources are pkg/proxy/iptables, ipvs and nftables of
// Kubernetes 1.36, in each of which cleanup.go lists what there is.
//
// The sysctls that kube-proxy sets, route_localnet and those of conntrack, stay as they
// are: nobody knows what they were before.
//
// Chains of the kubelet begin with KUBE- as well, and are of no interest here.
//
// All functions work in the network namespace of the calling thread.
package kubeproxy
