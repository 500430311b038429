package cli

import (
	"errors"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// kubeProxyOptions are flags of kube-proxy (1.37, and a few older ones) that
// exist so that its command line starts usher. The help does not show them.
type kubeProxyOptions struct {
	// mode is kube-proxy's. usher is a mode of its own, but keeps the addresses
	// of NodePorts that its user had.
	mode string
}

// meaningless flags take any value. Those that may stand without one are bools.
var meaningless = []struct {
	name   string
	isBool bool
}{
	{name: "feature-gates"}, {name: "show-hidden-metrics-for-version"}, {name: "config-sync-period"},
	{name: "iptables-masquerade-bit"},
	{name: "ipvs-scheduler"}, {name: "ipvs-exclude-cidrs"}, {name: "ipvs-strict-arp", isBool: true},
	{name: "ipvs-sync-period"}, {name: "ipvs-min-sync-period"},
	{name: "ipvs-tcp-timeout"}, {name: "ipvs-tcpfin-timeout"}, {name: "ipvs-udp-timeout"},
	{name: "vmodule"}, {name: "log-flush-frequency"}, {name: "stderrthreshold"},
	{name: "logtostderr", isBool: true}, {name: "alsologtostderr", isBool: true},
	{name: "log-text-split-stream", isBool: true}, {name: "log-text-info-buffer-size"},
	{name: "log-json-split-stream", isBool: true}, {name: "log-json-info-buffer-size"},
	{name: "boot-id-file"}, {name: "machine-id-file"},
	{name: "network-name"}, {name: "source-vip"}, {name: "enable-dsr", isBool: true}, {name: "root-hnsendpoint-name"},
	{name: "forward-healthcheck-vip", isBool: true}, {name: "windows-service", isBool: true},
}

// refused flags would have another effect than their user expects.
var refused = []struct {
	name, why string
	isBool    bool
}{
	{"cleanup", "use the command 'usher cleanup'", true},
	{"init-only", "usher run needs its rights as long as it runs", true},
	{"healthz-port", "use --healthz-bind-address", false},
	{"metrics-port", "use --metrics-bind-address", false},
}

func (k *kubeProxyOptions) define(f *pflag.FlagSet) {
	f.StringVar(&k.mode, "proxy-mode", "", "")
	for _, m := range meaningless {
		optional(f.VarPF(ignored{}, m.name, "", ""), m.isBool)
	}
	for _, r := range refused {
		optional(f.VarPF(refusal(r.why), r.name, "", ""), r.isBool)
	}
	f.VisitAll(func(flag *pflag.Flag) { flag.Hidden = true })
}

// optional lets a flag stand without a value.
func optional(f *pflag.Flag, isBool bool) {
	if isBool {
		f.NoOptDefVal = "true"
	}
}

// complete names what has no meaning, and takes from the mode what has.
func (k *kubeProxyOptions) complete(o *options) error {
	for _, m := range meaningless {
		if f := o.spoken(m.name); f != nil {
			o.without = append(o.without, withoutMeaning{name: "--" + f.Name})
		}
	}
	if k.mode != "" && k.mode != "userspace" {
		o.without = append(o.without, withoutMeaning{o.label("proxy-mode") + "=" + k.mode, o.places["proxy-mode"]})
	}
	if k.mode == "nftables" && !o.given("nodeport-addresses") {
		o.remarks = append(o.remarks, remark{logrus.InfoLevel, o.about("proxy-mode", "=nftables: serving NodePorts on the primary addresses only, as kube-proxy does then; --nodeport-addresses=all changes that")})
		o.implied["nodeport-addresses"] = o.label("proxy-mode") + "=" + k.mode
		return o.flags.Lookup("nodeport-addresses").Value.Set("primary")
	}
	return nil
}

func (k *kubeProxyOptions) configure(*options, *proxier.Config) error { return nil }

type ignored struct{}

func (ignored) Set(string) error { return nil }
func (ignored) String() string   { return "" }
func (ignored) Type() string     { return "string" }

// refusal says why, or what to use instead.
type refusal string

func (r refusal) Set(string) error { return errors.New(string(r)) }
func (refusal) String() string     { return "" }
func (refusal) Type() string       { return "string" }
