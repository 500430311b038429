package source

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What is refused here is what the API server refuses
// (kubernetes/pkg/apis/core/validation, .../discovery/validation), as far as
// the proxy relies on it.

// checks collects the faults of an object.
type checks []fault

func (c *checks) refuse(at *field.Path, format string, args ...any) {
	*c = append(*c, fault{field: at.String(), message: fmt.Sprintf(format, args...)})
}

// Names that the API server accepts; each returns why it would not.
var (
	isServiceName = validation.IsDNS1035Label
	isObjectName  = validation.IsDNS1123Subdomain
	isPortName    = validation.IsDNS1123Label
)

func validateMeta(o metav1.Object, isName func(string) []string) checks {
	var c checks
	c.meta(o, isName)
	return c
}

func (c *checks) meta(o metav1.Object, isName func(string) []string) {
	at := field.NewPath("metadata")
	switch {
	case o.GetName() == "" && o.GetGenerateName() != "":
		c.refuse(at.Child("name"), "missing: nothing generates names here")
	case o.GetName() == "":
		c.refuse(at.Child("name"), "missing")
	default:
		c.name(at.Child("name"), o.GetName(), isName)
	}
	if namespace := o.GetNamespace(); namespace != "" {
		c.name(at.Child("namespace"), namespace, validation.IsDNS1123Label)
	}
}

func (c *checks) name(at *field.Path, name string, isName func(string) []string) {
	if why := isName(name); len(why) > 0 {
		c.refuse(at, "%q: %s", abridge(name), strings.Join(why, "; "))
	}
}

func (c *checks) port(at *field.Path, number int32) {
	if number < 1 || number > 65535 {
		c.refuse(at, "must be from 1 to 65535, not %d", number)
	}
}

// oneOf checks a field of which the API defines the values.
func oneOf[T ~string](c *checks, at *field.Path, value T, allowed ...T) {
	if slices.Contains(allowed, value) {
		return
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	c.refuse(at, "must be %s, not %q", strings.Join(names, " or "), abridge(string(value)))
}

func (c *checks) protocol(at *field.Path, p corev1.Protocol) {
	oneOf(c, at, p, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

// portName checks one of total ports; taken has the names before it.
func (c *checks) portName(at *field.Path, name string, total int, taken map[string]bool) {
	switch {
	case name == "" && total > 1:
		c.refuse(at, "missing: with more than one port each needs a name")
	case name == "":
	case taken[name]:
		c.refuse(at, "%q is the name of another port", abridge(name))
	default:
		c.name(at, name, isPortName)
	}
	taken[name] = true
}

// address checks an IP address that something can be reached at. Loopback is
// allowed, unlike in a cluster: a lab on one machine lives there.
func (c *checks) address(at *field.Path, text string) netip.Addr {
	addr, ok := parseAddr(text)
	switch {
	case !ok:
		c.refuse(at, "%q is no IP address", abridge(text))
	case addr.IsUnspecified():
		c.refuse(at, "%s stands for no address", text)
	case addr.IsMulticast():
		c.refuse(at, "%s is a multicast address", text)
	case addr.IsLinkLocalUnicast():
		c.refuse(at, "%s is a link-local address", text)
	}
	return addr
}

func validateNode(n *corev1.Node) checks {
	var c checks
	c.meta(n, isObjectName)
	for i, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			if _, ok := parseAddr(a.Address); !ok {
				c.refuse(field.NewPath("status", "addresses").Index(i).Child("address"), "%q is no IP address", abridge(a.Address))
			}
		}
	}
	return c
}
