package proxier

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// annotationPrefix begins the annotations of a Service that are meant for us.
const annotationPrefix = "usher-proxy.io/"

// The annotations. The fields of a Service always come first; these say what no
// field can.
const (
	// proxyProtocolAnnotation, v1 or v2, makes every connection to an endpoint
	// begin with a header that tells the client's address.
	proxyProtocolAnnotation = annotationPrefix + "proxy-protocol"
)

var annotations = []string{proxyProtocolAnnotation}

// proxyProtocol is the version that a Service asks for, 0 for none. A value that
// means nothing has no effect: an endpoint that does not expect the header could
// not be spoken to.
func (d *desired) proxyProtocol(s *corev1.Service) byte {
	for name := range s.Annotations {
		if strings.HasPrefix(name, annotationPrefix) && !slices.Contains(annotations, name) {
			d.problem(s.Namespace, s.Name, "InvalidUsherAnnotation",
				fmt.Sprintf("annotation %q is unknown and has no effect: known are %s", name, strings.Join(annotations, ", ")))
		}
	}
	switch value := s.Annotations[proxyProtocolAnnotation]; value {
	case "":
		return 0
	case "v1":
		return 1
	case "v2":
		return 2
	default:
		d.problem(s.Namespace, s.Name, "InvalidUsherAnnotation",
			fmt.Sprintf("annotation %s: %q means nothing and has no effect: want v1 or v2", proxyProtocolAnnotation, value))
		return 0
	}
}
