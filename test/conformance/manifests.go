package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"
)

// Manifests is a Store in a folder: one file for each object.
type Manifests struct {
	t      *testing.T
	Folder string
}

// NewManifests is a Store in a new folder that ends with the test.
func NewManifests(t *testing.T) *Manifests { return &Manifests{t, t.TempDir()} }

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(s))
	utilruntime.Must(discoveryv1.AddToScheme(s))
	return s
}()

func (m *Manifests) path(o Object) string {
	kinds, _, err := scheme.ObjectKinds(o)
	if err != nil {
		m.t.Fatal(err)
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	return filepath.Join(m.Folder, fmt.Sprintf("%s_%s_%s.yaml", kinds[0].Kind, o.GetNamespace(), o.GetName()))
}

// Apply writes objects.
func (m *Manifests) Apply(objects ...Object) {
	m.t.Helper()
	for _, o := range objects {
		path := m.path(o)
		text, err := yaml.Marshal(o)
		if err == nil {
			// Renamed into place, as an editor does.
			err = os.WriteFile(path+".new", text, 0o644)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

// Delete deletes the files of objects.
func (m *Manifests) Delete(objects ...Object) {
	m.t.Helper()
	for _, o := range objects {
		path := m.path(o)
		if err := os.Remove(path); err != nil {
			m.t.Fatal(err)
		}
	}
}
