package proxier

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/annotation"
)

// annotated is what a Service asks for by annotations. The fields of a Service
// always come first; annotations say what no field can.
func (d *desired) annotated(s *corev1.Service) annotation.Settings {
	settings, faults := annotation.Parse(s.Annotations, d.defaults, d.policies)
	for _, f := range faults {
		d.problem(s.Namespace, s.Name, "InvalidUsherAnnotation", f.Why)
	}
	return settings
}
