// Package tune sets what an operator asked of the kernel, once when usher
// starts: conntrack's sysctls and the process' own OOM score. Nothing is changed
// that was not asked for.
//
// The meaning of the settings is kube-proxy's, so that its values can be kept.
// Unlike there, a setting that the kernel refuses does not end the process:
// Services are served without it.
package tune
