package source

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateSlice checks an EndpointSlice with its defaults filled in.
func validateSlice(s *discoveryv1.EndpointSlice) checks {
	var c checks
	c.meta(s, isObjectName)
	c.serviceLabel(s)
	if s.AddressType == "" {
		c.refuse(field.NewPath("addressType"), "missing: IPv4 or IPv6")
		return c
	}
	oneOf(&c, field.NewPath("addressType"), s.AddressType, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	for i, e := range s.Endpoints {
		c.endpoint(field.NewPath("endpoints").Index(i), s.AddressType, e)
	}
	names := make(map[string]bool)
	for i, p := range s.Ports {
		at := field.NewPath("ports").Index(i)
		c.portName(at.Child("name"), *p.Name, len(s.Ports), names)
		c.protocol(at.Child("protocol"), *p.Protocol)
		if p.Port == nil {
			c.refuse(at.Child("port"), "missing: it is the number that is dialled")
			continue
		}
		c.port(at.Child("port"), *p.Port)
	}
	return c
}

func (c *checks) serviceLabel(s *discoveryv1.EndpointSlice) {
	at := field.NewPath("metadata", "labels").Key(discoveryv1.LabelServiceName)
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		c.refuse(at, "missing: it names the Service that these endpoints belong to")
		return
	}
	c.name(at, name, validation.IsDNS1123Subdomain)
}

func (c *checks) endpoint(at *field.Path, t discoveryv1.AddressType, e discoveryv1.Endpoint) {
	if len(e.Addresses) == 0 {
		c.refuse(at.Child("addresses"), "needs an address")
	}
	if t != discoveryv1.AddressTypeIPv4 && t != discoveryv1.AddressTypeIPv6 {
		return // FQDN: not served
	}
	for i, text := range e.Addresses {
		at := at.Child("addresses").Index(i)
		addr := c.address(at, text)
		if addr.IsValid() && string(familyOf(addr)) != string(t) {
			c.refuse(at, "%s is no %s address, which addressType says", text, t)
		}
	}
}
