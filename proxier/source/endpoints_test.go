package source

import "testing"

func TestEndpointsBecomeSlices(t *testing.T) {
	objects, problems := decode("f.yaml", []byte(`apiVersion: v1
kind: Endpoints
metadata: {name: db, namespace: x, labels: {a: b}}
subsets:
- addresses:
  - {ip: 10.0.0.1, nodeName: n1}
  - ip: fd00::1
  notReadyAddresses:
  - ip: 10.0.0.2
  ports:
  - {name: sql, port: 5432}
`), ordinaryServices())
	if len(problems) > 0 || len(objects) != 1 || len(objects[0].legacy) != 2 {
		t.Fatalf("%d objects, problems %q", len(objects), texts(problems))
	}
	v4, v6 := objects[0].legacy[0], objects[0].legacy[1]
	for what, equal := range map[string]bool{
		"service":  v4.Labels["kubernetes.io/service-name"] == "db" && v6.Labels["kubernetes.io/service-name"] == "db" && v4.Namespace == "x",
		"label":    v4.Labels["a"] == "b",
		"family":   v4.AddressType == "IPv4" && v6.AddressType == "IPv6",
		"ready":    *v4.Endpoints[0].Conditions.Ready && !*v4.Endpoints[1].Conditions.Ready && v4.Endpoints[1].Conditions.Serving == nil,
		"node":     *v4.Endpoints[0].NodeName == "n1" && v4.Endpoints[1].NodeName == nil,
		"port":     *v4.Ports[0].Name == "sql" && *v4.Ports[0].Port == 5432 && *v4.Ports[0].Protocol == "TCP",
		"versions": v4.ResourceVersion != "" && v4.UID != v6.UID,
	} {
		if !equal {
			t.Errorf("%s: got %+v and %+v", what, v4, v6)
		}
	}
	locks := "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: a\n  annotations: {control-plane.alpha.kubernetes.io/leader: x}\nsubsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 1}]}]\n"
	if objects, _ := decode("f.yaml", []byte(locks), ordinaryServices()); len(objects) != 1 || objects[0].legacy != nil {
		t.Error("a lock for leader election became endpoints")
	}
}
