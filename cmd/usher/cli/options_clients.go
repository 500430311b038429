package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
)

// clientOptions say which clients are pods of this node, and whether endpoints
// see a client's address.
type clientOptions struct {
	preserveSource string
	returnMark     string

	mode            string
	clusterCIDRs    []string
	bridge          string
	interfacePrefix string
}

func (c *clientOptions) define(f *pflag.FlagSet) {
	f.StringVar(&c.preserveSource, "preserve-source", "auto", "auto: endpoints see the client's address wherever their answer comes back through this node; never: they see the node's")
	alias(f, "masquerade-all", "preserve-source", (*masqueradeAll)(&c.preserveSource)).NoOptDefVal = "true"
	f.Lookup("masquerade-all").Usage = "the same as --preserve-source=never"
	f.StringVar(&c.returnMark, "return-mark", "0x40/0x40", "packet mark, `value[/mask]`, of endpoints' answers to a client's address; no bit of --mark")
	f.StringVar(&c.mode, "detect-local-mode", "NodeCIDR", "which clients are pods of this node: NodeCIDR (those in the Node's podCIDRs), ClusterCIDR, BridgeInterface or InterfaceNamePrefix. "+
		"Unlike in kube-proxy, --cluster-cidr alone does not make it ClusterCIDR: pods of other nodes are not of this one, and get their answers either way")
	f.StringSliceVar(&c.clusterCIDRs, "cluster-cidr", nil, "`CIDRs` of all pods of the cluster, for --detect-local-mode=ClusterCIDR")
	f.StringVar(&c.bridge, "pod-bridge-interface", "", "`name` of the bridge that pods come in by, for --detect-local-mode=BridgeInterface")
	f.StringVar(&c.interfacePrefix, "pod-interface-name-prefix", "", "`prefix` of the interfaces that pods come in by, for --detect-local-mode=InterfaceNamePrefix")
}

func (c *clientOptions) configure(o *options, cfg *proxier.Config) error {
	return errors.Join(c.source(o, cfg), c.localPods(o, &cfg.LocalPods))
}

func (c *clientOptions) source(o *options, cfg *proxier.Config) error {
	mark, err := o.parseMark("return-mark", c.returnMark)
	if err != nil {
		return err
	}
	switch c.preserveSource {
	case "never":
		if o.spoken("return-mark") != nil {
			return fmt.Errorf("--return-mark is about clients' addresses: %s=never keeps none", o.label("preserve-source"))
		}
		return nil
	case "auto":
	default:
		return o.fault("preserve-source", c.preserveSource, "want auto or never")
	}
	if mark.Mask&cfg.Mark.Mask != 0 {
		return o.fault("return-mark", c.returnMark, "it shares bits with %s=%s", o.label("mark"), o.capture.mark)
	}
	cfg.ReturnMark = mark
	return nil
}

// needs is the flag that each mode needs.
var needs = map[string]string{
	"NodeCIDR":            "",
	"ClusterCIDR":         "cluster-cidr",
	"BridgeInterface":     "pod-bridge-interface",
	"InterfaceNamePrefix": "pod-interface-name-prefix",
}

func (c *clientOptions) localPods(o *options, pods *proxier.LocalPods) (err error) {
	need, known := needs[c.mode]
	if !known {
		return o.fault("detect-local-mode", c.mode, "want NodeCIDR, ClusterCIDR, BridgeInterface or InterfaceNamePrefix")
	}
	has := map[string]bool{
		"cluster-cidr":              len(c.clusterCIDRs) > 0,
		"pod-bridge-interface":      c.bridge != "",
		"pod-interface-name-prefix": c.interfacePrefix != "",
	}
	if need != "" && !has[need] {
		return o.fault("detect-local-mode", c.mode, "it needs --%s", need)
	}
	for _, name := range []string{"cluster-cidr", "pod-bridge-interface", "pod-interface-name-prefix"} {
		if has[name] && name != need {
			o.notUsed(name, "pods of this node are found by --detect-local-mode=%s", c.mode)
		}
	}
	pods.Mode = c.mode
	cidrs, err := o.prefixes("cluster-cidr", c.clusterCIDRs)
	switch c.mode {
	case "ClusterCIDR":
		pods.ClusterCIDRs = cidrs
	case "BridgeInterface":
		pods.Interface = c.bridge
		return o.interfaceFault(need, c.bridge, c.bridge)
	case "InterfaceNamePrefix":
		pods.Interface = c.interfacePrefix
		return o.interfaceFault(need, c.interfacePrefix, c.interfacePrefix+"+")
	}
	return err
}

// interfaceFault is what is wrong with a name that rules are to have.
func (o *options) interfaceFault(flag, value, inRule string) error {
	if iptables.CheckInterface(inRule) != nil || strings.HasSuffix(value, "+") {
		return o.fault(flag, value, "it is not the name of a network interface, nor how such names begin")
	}
	return nil
}

// masqueradeAll is kube-proxy's way to say --preserve-source.
type masqueradeAll string

func (m *masqueradeAll) Set(text string) error {
	switch text {
	case "true":
		*m = "never"
	case "false":
		*m = "auto"
	default:
		return fmt.Errorf("want true or false")
	}
	return nil
}

func (m *masqueradeAll) String() string { return string(*m) }
func (m *masqueradeAll) Type() string   { return "bool" }
