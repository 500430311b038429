package proxier

import (
	"fmt"
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/annotation"
)

// annotated is what a Service asks for by annotations. The fields of a Service
// always come first; annotations say what no field can.
func (d *desired) annotated(s *corev1.Service) *annotation.Settings {
	said := maps.Clone(s.Annotations)
	for _, name := range d.forbidden {
		if said[annotation.Prefix+name] != "" {
			delete(said, annotation.Prefix+name)
			d.problem(s.Namespace, s.Name, "IgnoredUsherAnnotation",
				fmt.Sprintf("annotation %s%s has no effect on this node, which does not allow it (--ignore-annotations)", annotation.Prefix, name))
		}
	}
	settings, faults := annotation.Parse(said, *d.defaults, d.policies)
	for _, f := range faults {
		d.problem(s.Namespace, s.Name, "InvalidUsherAnnotation", f.Why)
	}
	if reflect.DeepEqual(settings, *d.defaults) {
		return d.defaults // most Services have the same
	}
	return &settings
}
