package cli

import "slices"

// idle are settings that others leave without an effect.
var idle = []struct {
	flags   []string
	because string
	is      func(o *options) bool
}{
	{[]string{"kube-api-qps", "kube-api-burst", "kube-api-content-type"}, "with manifests no API server is asked",
		func(o *options) bool { return len(o.source.manifests) > 0 }},
	{[]string{"with-kube-proxy"}, "with serviceProxyName it goes without saying",
		func(o *options) bool { return o.source.serviceProxyName != "" }},
	{[]string{"proxy-port-range", "mark", "return-mark"}, "capture bind redirects no connections",
		func(o *options) bool { return o.capture.capture == "bind" }},
	{[]string{"announce-vips", "any-ip"}, "capture iptables binds no addresses",
		func(o *options) bool { return o.capture.capture == "iptables" }},
	{[]string{"return-mark"}, "preserveSource never keeps no client's address",
		func(o *options) bool { return o.clients.preserveSource == "never" && o.capture.capture != "bind" }},
	{[]string{"log-file-max-size", "log-file-max-files"}, "there is no logFile",
		func(o *options) bool { return o.seen.logFile == "" }},
	{[]string{"profiling"}, "metricsBindAddress is empty",
		func(o *options) bool { return o.seen.metrics == "" }},
	{[]string{"conntrack-min"}, "conntrackMaxPerCore 0 leaves the kernel's limit",
		func(o *options) bool { return o.kernel.conntrack.MaxPerCore == 0 }},
}

// remarkIdle keeps for the log which settings somebody made without an effect. A value
// that is the default is none: --write-config-to writes them all.
func (o *options) remarkIdle() {
	for _, group := range idle {
		if !group.is(o) {
			continue
		}
		for _, name := range slices.DeleteFunc(slices.Clone(group.flags), func(name string) bool { return !o.given(name) || o.isDefault(name) }) {
			o.notUsed(name, "%s", group.because)
		}
	}
}

// isDefault says whether a flag has the value that it has by itself.
func (s *settings) isDefault(name string) bool {
	f := s.flags.Lookup(name)
	return f.Value.String() == f.DefValue
}
