package source

import (
	"strings"
	"testing"
)

// A step edits files; then they serve what is wanted and the log has lines.
type step struct {
	edit func(f folder)
	want string   // names, sorted
	log  []string // new lines, in order, without the folder's path
}

func runSteps(t *testing.T, start func(f folder), steps ...step) {
	t.Helper()
	f, log := newFolder(t), newLogbook(t)
	start(f)
	m := newTestManifests(t, log, f.path)
	for i, s := range steps {
		if s.edit != nil {
			s.edit(f)
		}
		seen := len(log.all())
		if i == 0 && s.edit == nil {
			seen = 0
		}
		if got := strings.Join(reload(m), " "); got != s.want {
			t.Errorf("step %d: serves %q, want %q", i, got, s.want)
		}
		if again := len(log.all()); len(reload(m)) >= 0 && len(log.all()) != again {
			t.Errorf("step %d: a second load logs %q", i, log.all()[again:])
		}
		var lines []string
		for _, line := range log.all()[seen:] {
			if !strings.Contains(line, "the manifests have") {
				lines = append(lines, strings.ReplaceAll(line, f.path+"/", ""))
			}
		}
		if strings.Join(lines, "\n") != strings.Join(s.log, "\n") {
			t.Errorf("step %d: logs\n%s\nwant\n%s", i, strings.Join(lines, "\n"), strings.Join(s.log, "\n"))
		}
	}
}

func TestBrokenDocumentTakesNothingDown(t *testing.T) {
	const mistake = `a.yaml:8: Service web: spec.ports[0].port: must be a whole number, not the text "eighty"`
	const kept = "a.yaml: until this is mended, still served from the last good state: Service default/web"
	runSteps(t,
		func(f folder) { f.write("a.yaml", service("web", 1), service("x", 2)) },
		step{want: "default/web default/x"},
		step{ // the rest of the file follows its edits
			edit: func(f folder) { f.write("a.yaml", brokenService, service("y", 2)) },
			want: "default/web default/y",
			log: []string{
				"error " + mistake,
				"warning " + kept,
				"warning a.yaml: Service default/x: spec.ports[0].port: its last good state is no longer served: 10.96.0.2:80/TCP belongs to the Service default/y (a.yaml:10)",
			},
		})
	runSteps(t,
		func(f folder) { f.write("a.yaml", service("web", 1), service("x", 2)) },
		step{want: "default/web default/x"},
		step{
			edit: func(f folder) { f.write("a.yaml", brokenService, service("x", 3)) },
			want: "default/web default/x",
			log:  []string{"error " + mistake, "warning " + kept},
		},
		step{ // the mistake only moves
			edit: func(f folder) { f.write("a.yaml", "# moved\n"+brokenService, service("x", 3)) },
			want: "default/web default/x",
		},
		step{
			edit: func(f folder) { f.write("a.yaml", service("web", 1), service("x", 3)) },
			want: "default/web default/x",
			log:  []string{"info mended: " + strings.Replace(mistake, ":8:", ":9:", 1)},
		},
		step{
			edit: func(f folder) { f.write("a.yaml", service("x", 3)) },
			want: "default/x",
		})
}

func TestSyntaxErrorTakesNothingDown(t *testing.T) {
	runSteps(t,
		func(f folder) { f.write("a.yaml", service("a", 1), service("b", 2), service("c", 3)) },
		step{want: "default/a default/b default/c"},
		step{
			edit: func(f folder) {
				f.write("a.yaml", service("a", 1), strings.Replace(service("b", 2), "  clusterIP", "\tclusterIP", 1), service("c", 4))
			},
			want: "default/a default/b default/c",
			log: []string{
				"error a.yaml:15: found character that cannot start any token (indent with spaces: this line has a tab)",
				"warning a.yaml: until this is mended, still served from the last good state: Service default/b",
			},
		},
		step{ // moved to another file meanwhile
			edit: func(f folder) { f.write("b.yaml", service("b", 2)) },
			want: "default/a default/b default/c",
		},
		step{
			edit: func(f folder) { f.remove("a.yaml") },
			want: "default/b",
			log:  []string{"info mended: a.yaml:15: found character that cannot start any token (indent with spaces: this line has a tab)"},
		})
}

func TestSameObjectTwice(t *testing.T) {
	const problem = "b.yaml:1: Service default/web: is defined in a.yaml:1 already, which counts: remove one of them"
	runSteps(t,
		func(f folder) { f.write("b.yaml", service("web", 2)) },
		step{want: "default/web"},
		step{
			edit: func(f folder) { f.write("a.yaml", service("web", 1)) },
			want: "default/web",
			log:  []string{"error " + problem},
		},
		step{
			edit: func(f folder) { f.remove("b.yaml") },
			want: "default/web",
			log:  []string{"info mended: " + problem},
		})
}

func TestFrontendClaimedTwice(t *testing.T) {
	t.Run("the first one has it", func(t *testing.T) {
		runSteps(t,
			func(f folder) {
				f.write("a.yaml", nodePort("a", 1, 30080), service("b", 1))
				f.write("c.yaml", nodePort("c", 3, 30080))
			},
			step{
				want: "default/a",
				log: []string{
					"error a.yaml:19: Service default/b: spec.ports[0].port: 10.96.0.1:80/TCP belongs to the Service default/a (a.yaml:1)",
					"error c.yaml:10: Service default/c: spec.ports[0].nodePort: nodePort 30080/TCP belongs to the Service default/a (a.yaml:1)",
				},
			})
	})
	t.Run("the older one has it", func(t *testing.T) {
		dated := func(text, date string) string {
			return strings.Replace(text, "spec:", "  creationTimestamp: "+date+"\nspec:", 1)
		}
		runSteps(t,
			func(f folder) {
				f.write("a.yaml", service("a", 1))
				f.write("b.yaml", dated(service("b", 1), "2024-01-02T00:00:00Z"))
				f.write("c.yaml", dated(service("c", 1), "2024-01-01T00:00:00Z"))
			},
			step{
				want: "default/c",
				log: []string{
					"error a.yaml:8: Service default/a: spec.ports[0].port: 10.96.0.1:80/TCP belongs to the Service default/c (c.yaml:1)",
					"error b.yaml:9: Service default/b: spec.ports[0].port: 10.96.0.1:80/TCP belongs to the Service default/c (c.yaml:1)",
				},
			})
	})
	t.Run("who has it keeps it, and the other one what it had", func(t *testing.T) {
		runSteps(t,
			func(f folder) { f.write("b.yaml", nodePort("b", 2, 30080)); f.write("a.yaml", nodePort("a", 1, 30081)) },
			step{want: "default/a default/b"},
			step{
				edit: func(f folder) { f.write("a.yaml", nodePort("a", 1, 30080)) },
				want: "default/a default/b",
				log: []string{
					"error a.yaml:10: Service default/a: spec.ports[0].nodePort: nodePort 30080/TCP belongs to the Service default/b (b.yaml:1)",
					"warning a.yaml: until this is mended, still served from the last good state: Service default/a",
				},
			})
	})
	t.Run("exchanged", func(t *testing.T) {
		runSteps(t,
			func(f folder) { f.write("a.yaml", nodePort("a", 1, 30080), nodePort("b", 2, 30081)) },
			step{want: "default/a default/b"},
			step{
				edit: func(f folder) { f.write("a.yaml", nodePort("a", 1, 30081), nodePort("b", 2, 30080)) },
				want: "default/a default/b",
			})
	})
	t.Run("renamed", func(t *testing.T) {
		runSteps(t,
			func(f folder) { f.write("a.yaml", service("a", 1)) },
			step{want: "default/a"},
			step{edit: func(f folder) { f.write("a.yaml", service("b", 1)) }, want: "default/b"})
	})
}

// An object that is handed to another proxy is not kept by mistake.
func TestGivenAwayInABrokenFile(t *testing.T) {
	runSteps(t,
		func(f folder) { f.write("a.yaml", service("a", 1), service("web", 2)) },
		step{want: "default/a default/web"},
		step{
			edit: func(f folder) {
				f.write("a.yaml", strings.Replace(service("a", 1), "spec:", "  labels: {service.kubernetes.io/service-proxy-name: x}\nspec:", 1), "broken")
			},
			want: "default/web",
			log: []string{
				`error a.yaml:11: must be a Kubernetes object, not the text "broken"`,
				"warning a.yaml: until this is mended, still served from the last good state: Service default/web",
			},
		})
}

func TestEndpointsGiveWayToSlices(t *testing.T) {
	const endpoints = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets: [{addresses: [{ip: 10.0.0.9}], ports: [{port: 1}]}]\n"
	runSteps(t,
		func(f folder) { f.write("a.yaml", service("web", 1), endpoints) },
		step{want: "default/web slice default/web-mirror-0-ipv4"},
		step{ // without a selector both count, as in a cluster
			edit: func(f folder) { f.write("b.yaml", goodSlice) },
			want: "default/web slice default/web-1 slice default/web-mirror-0-ipv4",
		},
		step{
			edit: func(f folder) { f.write("a.yaml", service("web", 1, "  selector: {app: web}\n"), endpoints) },
			want: "default/web slice default/web-1",
		})
}
