package source

import (
	"slices"
	"strings"
	"testing"
)

// good is a Service that a test breaks in one place.
const good = `apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  clusterIP: 10.96.0.10
  ports:
  - name: http
    port: 80
`

const goodSlice = `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels:
    kubernetes.io/service-name: web
addressType: IPv4
endpoints:
- addresses: [10.0.0.1]
ports:
- name: http
  port: 8080
`

// replaced returns text with one change, which must be possible.
func replaced(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in\n%s", old, text)
	}
	return strings.Replace(text, old, new, 1)
}

func texts(problems []problem) []string {
	all := make([]string, len(problems))
	for i, p := range problems {
		all[i] = p.String()
	}
	return all
}

func TestDecodeGood(t *testing.T) {
	for name, text := range map[string]string{
		"service": good, "slice": goodSlice,
		"CRLF":          strings.ReplaceAll(good, "\n", "\r\n"),
		"BOM":           "\xef\xbb\xbf" + good,
		"JSON":          "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Node\",\n\t\"metadata\": {\"name\": \"n\"}}",
		"comment first": "# a\n---\n# b\n---\n" + good,
		"comment last":  good + "---\n# c\n---\n---\n",
		"date":          good + "status: {}\n---\napiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  creationTimestamp: 2024-01-01T00:00:00Z\n",
		"null":          replaced(t, good, "spec:", "status: null\nspec:"),
		"anchor":        replaced(t, good, "name: http\n    port: 80", "&p\n    port: 80\n    appProtocol: &x http\n    name: *x"),
		"zeros":         replaced(t, good, "10.96.0.10", "010.096.0.010"),
	} {
		t.Run(name, func(t *testing.T) {
			objects, problems := decode("f.yaml", []byte(text), ordinaryServices())
			if len(objects) == 0 || len(problems) > 0 {
				t.Errorf("%d objects, problems %q", len(objects), texts(problems))
			}
		})
	}
}

func TestDecodeMistakes(t *testing.T) {
	service := func(old, new string) string { return replaced(t, good, old, new) }
	slice := func(old, new string) string { return replaced(t, goodSlice, old, new) }
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"unknown field":        {service("port: 80", "port: 80\n    prot: TCP"), []string{"f.yaml:10: Service web: spec.ports[0].prot: unknown field"}},
		"wrong case":           {service("clusterIP", "clusterIp"), []string{`f.yaml:6: Service web: spec.clusterIp: unknown field: did you mean "clusterIP"?`}},
		"wrong type":           {service("port: 80", "port: eighty"), []string{`f.yaml:9: Service web: spec.ports[0].port: must be a whole number, not the text "eighty"`}},
		"quoted number":        {service("port: 80", `port: "80"`), []string{`f.yaml:9: Service web: spec.ports[0].port: must be a whole number, not the text "80"`}},
		"number for text":      {service("name: http", "name: 8080"), []string{"f.yaml:8: Service web: spec.ports[0].name: must be a text, not the number 8080: put it in quotes"}},
		"too large":            {service("port: 80", "port: 99999999999"), []string{"f.yaml:9: Service web: spec.ports[0].port: the number 99999999999 is out of range"}},
		"fraction":             {service("port: 80", "port: 80.5"), []string{"f.yaml:9: Service web: spec.ports[0].port: must be a whole number, not the number 80.5"}},
		"list for mapping":     {service("ports:\n", "ports: {}\n  externalIPs:\n"), []string{"f.yaml:7: Service web: spec.ports: must be a list, not a mapping", "f.yaml:9: Service web: spec.externalIPs[0]: must be a text, not a mapping"}},
		"mapping for text":     {service("name: web", "name: {a: b}"), []string{"f.yaml:4: Service: metadata.name: must be a text, not a mapping"}},
		"not a truth":          {service("  ports", "  publishNotReadyAddresses: ja\n  ports"), []string{`f.yaml:7: Service web: spec.publishNotReadyAddresses: must be true or false, not the text "ja"`}},
		"bad date":             {service("name: web", "name: web\n  creationTimestamp: yesterday"), []string{`f.yaml:5: Service web: metadata.creationTimestamp: the text "yesterday" does not fit: parsing time`}},
		"duplicate key":        {service("port: 80", "port: 80\n    port: 81"), []string{"f.yaml:10: Service web: spec.ports[0].port: given twice: remove one of them"}},
		"merge key":            {service("  ports", "  <<: {}\n  ports"), []string{`f.yaml:7: Service web: spec: merge keys ("<<") are not supported`}},
		"several":              {service("port: 80", "prot: 80\n    nodePort: x"), []string{"f.yaml:9: Service web: spec.ports[0].prot: unknown field", `f.yaml:10: Service web: spec.ports[0].nodePort: must be a whole number, not the text "x"`}},
		"indentation":          {service("  clusterIP: 10.96.0.10", " clusterIP: 10.96.0.10"), []string{"f.yaml:7: mapping values are not allowed in this context"}},
		"tab":                  {service("    port: 80", "\tport: 80"), []string{"f.yaml:9: found a tab character that violates indentation (indent with spaces: this line has a tab)"}},
		"tab first":            {service("  clusterIP", "\tclusterIP"), []string{"f.yaml:6: found character that cannot start any token (indent with spaces: this line has a tab)"}},
		"unclosed":             {service("10.96.0.10", `"10.96.0.10`), []string{"f.yaml:6: found unexpected end of stream"}},
		"unclosed list":        {service("10.96.0.10", "[10.96.0.10"), []string{"f.yaml:6: did not find expected ',' or ']'"}},
		"indented less":        {service("    port: 80", "   port: 80"), []string{"f.yaml:6: did not find expected key: see the indentation from this line on"}},
		"not UTF-8":            {service("name: http", "name: \xff"), []string{"f.yaml:8: the text is not UTF-8"}},
		"unknown anchor":       {service("name: http", "name: *x"), []string{"f.yaml:8: unknown anchor 'x' referenced"}},
		"no kind":              {service("kind: Service\n", ""), []string{`f.yaml:1: kind: missing, such as "Service"`}},
		"no apiVersion":        {service("apiVersion: v1\n", ""), []string{`f.yaml:1: Service web: apiVersion: missing, such as "v1"`}},
		"unknown version":      {service("apiVersion: v1", "apiVersion: v2"), []string{"f.yaml:1: Service web: apiVersion: usher reads v1 Service, not v2"}},
		"old version":          {slice("/v1", "/v1beta1"), []string{"f.yaml:1: EndpointSlice web-1: apiVersion: usher reads discovery.k8s.io/v1 EndpointSlice, not discovery.k8s.io/v1beta1"}},
		"other kind":           {service("Service", "Pod"), []string{"f.yaml:2: Pod web: kind: not read by usher"}},
		"other group":          {service("v1", "serving.knative.dev/v1"), []string{"f.yaml:2: Service web: kind: not read by usher"}},
		"a text":               {"hello", []string{`f.yaml:1: must be a Kubernetes object, not the text "hello"`}},
		"a list":               {"# c\n- a\n", []string{"f.yaml:2: must be a Kubernetes object, not a list"}},
		"two in one":           {"{a: 1}\n{b: 2}", []string{"f.yaml:2: did not find expected <document start>: a second object needs a line --- before it"}},
		"endless":              {service("  ports", "  selector: &a\n    x: *a\n  ports"), []string{"f.yaml:1: nested deeper than 100 levels"}},
		"bomb":                 {bomb(), []string{"f.yaml:1: too large: aliases"}},
		"deep":                 {strings.Repeat("[", 200) + strings.Repeat("]", 200), []string{"f.yaml:1: nested deeper than 100 levels"}},
		"no name":              {service("  name: web", "  generateName: web-"), []string{"f.yaml:3: Service: metadata.name: missing: nothing generates names here"}},
		"bad name":             {service("name: web", "name: Web_1"), []string{`f.yaml:4: Service Web_1: metadata.name: "Web_1": `}},
		"bad namespace":        {service("name: web", "name: web\n  namespace: a.b"), []string{`f.yaml:5: Service a.b/web: metadata.namespace: "a.b": `}},
		"no clusterIP":         {service("  clusterIP: 10.96.0.10\n", ""), []string{"f.yaml:5: Service web: spec.clusterIP: needs an address: nothing allocates one here"}},
		"no ports":             {good[:strings.Index(good, "  ports")], []string{"f.yaml:5: Service web: spec.ports: needs at least one port"}},
		"unnamed ports":        {service("  - name: http\n", "  - port: 443\n  - name: http\n"), []string{"f.yaml:8: Service web: spec.ports[0].name: missing: with more than one port each needs a name"}},
		"same name":            {good + "  - name: http\n    port: 81\n", []string{`f.yaml:10: Service web: spec.ports[1].name: "http" is the name of another port`}},
		"same port":            {good + "  - name: b\n    port: 80\n", []string{"f.yaml:11: Service web: spec.ports[1].port: 80/TCP is another port of this Service already"}},
		"port range":           {service("port: 80", "port: 65536"), []string{"f.yaml:9: Service web: spec.ports[0].port: must be from 1 to 65535, not 65536"}},
		"protocol":             {service("port: 80", "port: 80\n    protocol: tcp"), []string{`f.yaml:10: Service web: spec.ports[0].protocol: must be TCP or UDP or SCTP, not "tcp"`}},
		"type":                 {service("spec:", "spec:\n  type: Nodeport"), []string{"f.yaml:6: Service web: spec.type: must be ClusterIP or NodePort or"}},
		"nodePort of none":     {service("port: 80", "port: 80\n    nodePort: 30000"), []string{"f.yaml:10: Service web: spec.ports[0].nodePort: only Services of type NodePort"}},
		"clusterIP":            {service("10.96.0.10", "10.96.0.300"), []string{`f.yaml:6: Service web: spec.clusterIP: "10.96.0.300" is no IP address`}},
		"unspecified":          {service("10.96.0.10", "0.0.0.0"), []string{"f.yaml:6: Service web: spec.clusterIP: 0.0.0.0 stands for no address"}},
		"clusterIPs differ":    {service("  ports", "  clusterIPs: [10.96.0.11]\n  ports"), []string{"f.yaml:7: Service web: spec.clusterIPs[0]: must be the same as clusterIP, 10.96.0.10"}},
		"same family":          {service("  ports", "  clusterIPs: [10.96.0.10, 10.96.0.11]\n  ports"), []string{"f.yaml:7: Service web: spec.clusterIPs[1]: 10.96.0.11 is of the same family as 10.96.0.10"}},
		"ipFamilies":           {service("  ports", "  ipFamilies: [IPv6]\n  ports"), []string{"f.yaml:7: Service web: spec.ipFamilies[0]: IPv6, but clusterIPs[0] is 10.96.0.10"}},
		"affinity":             {service("  ports", "  sessionAffinity: clientIP\n  ports"), []string{`f.yaml:7: Service web: spec.sessionAffinity: must be None or ClientIP, not "clientIP"`}},
		"affinity timeout":     {service("  ports", "  sessionAffinity: ClientIP\n  sessionAffinityConfig:\n    clientIP:\n      timeoutSeconds: 0\n  ports"), []string{"f.yaml:10: Service web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: must be from 1 to 86400, not 0"}},
		"internal policy":      {service("  ports", "  internalTrafficPolicy: local\n  ports"), []string{"f.yaml:7: Service web: spec.internalTrafficPolicy: must be Cluster or Local"}},
		"external policy":      {service("  ports", "  externalTrafficPolicy: Local\n  ports"), []string{"f.yaml:7: Service web: spec.externalTrafficPolicy: only for Services of type NodePort"}},
		"health port":          {service("  ports", "  healthCheckNodePort: 31000\n  ports"), []string{"f.yaml:7: Service web: spec.healthCheckNodePort: only for type LoadBalancer with"}},
		"externalIP":           {service("  ports", "  externalIPs:\n  - 1.2.3\n  ports"), []string{`f.yaml:8: Service web: spec.externalIPs[0]: "1.2.3" is no IP address`}},
		"source range":         {service("  ports", "  type: LoadBalancer\n  loadBalancerSourceRanges: [10.0.0.0/33]\n  ports"), []string{`f.yaml:8: Service web: spec.loadBalancerSourceRanges[0]: "10.0.0.0/33" is no range`}},
		"ingress":              {good + "status: {loadBalancer: {ingress: [{ip: x}]}}\n", []string{`f.yaml:10: Service web: status.loadBalancer.ingress[0].ip: "x" is no IP address`}},
		"slice without label":  {slice("    kubernetes.io/service-name: web\n", "    app: web\n"), []string{"f.yaml:5: EndpointSlice web-1: metadata.labels[kubernetes.io/service-name]: missing: it names the Service"}},
		"no addressType":       {slice("addressType: IPv4\n", ""), []string{"f.yaml:1: EndpointSlice web-1: addressType: missing: IPv4 or IPv6"}},
		"bad addressType":      {slice("IPv4", "ipv4"), []string{"f.yaml:7: EndpointSlice web-1: addressType: must be IPv4 or IPv6 or FQDN"}},
		"other family":         {slice("10.0.0.1", `"fd00::1"`), []string{"f.yaml:9: EndpointSlice web-1: endpoints[0].addresses[0]: fd00::1 is no IPv4 address, which addressType says"}},
		"no address":           {slice("[10.0.0.1]", "[]"), []string{"f.yaml:9: EndpointSlice web-1: endpoints[0].addresses: needs an address"}},
		"link-local":           {slice("10.0.0.1", "169.254.0.1"), []string{"f.yaml:9: EndpointSlice web-1: endpoints[0].addresses[0]: 169.254.0.1 is a link-local address"}},
		"no port":              {slice("  port: 8080\n", ""), []string{"f.yaml:11: EndpointSlice web-1: ports[0].port: missing: it is the number that is dialled"}},
		"label is a number":    {slice("service-name: web", "service-name: 7"), []string{"f.yaml:6: EndpointSlice web-1: metadata.labels[kubernetes.io/service-name]: must be a text, not the number 7"}},
		"list without items":   {"apiVersion: v1\nkind: List\nitems: 3\n", []string{"f.yaml:3: List: items: must be a list of objects"}},
		"second document":      {good + "---\n" + service("port: 80", "port: x"), []string{"f.yaml:19: Service web: spec.ports[0].port: must be"}},
		"second document CRLF": {strings.ReplaceAll(good+"---\n"+service("port: 80", "port: x"), "\n", "\r\n"), []string{"f.yaml:19: Service web: spec.ports[0].port: must be"}},
		"syntax in the middle": {good + "---\na: b: c\n---\n" + goodSlice, []string{"f.yaml:11: mapping values are not allowed"}},
		"endpoints address":    {"apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets:\n- addresses:\n  - ip: x\n  ports:\n  - port: 0\n", []string{`f.yaml:6: Endpoints web: subsets[0].addresses[0].ip: "x" is no IP address`, "f.yaml:8: Endpoints web: subsets[0].ports[0].port: must be from 1 to 65535, not 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := decode("f.yaml", []byte(test.text), ordinaryServices())
			got := texts(problems)
			if len(got) != len(test.want) {
				t.Fatalf("got %d problems\n%s\nwant\n%s", len(got), strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], test.want[i]) {
					t.Errorf("got\n%s\nwant\n%s", got[i], test.want[i])
				}
			}
		})
	}
}

// bomb is a document of a few hundred bytes that stands for 10^9 values.
func bomb() string {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := '1'; i <= '9'; i++ {
		before := "*a" + string(i-1)
		text += "a" + string(i) + ": &a" + string(i) + " [" + strings.Repeat(before+", ", 9) + before + "]\n"
	}
	return text
}

// A mistake costs the document, or the item of a List, that it is in.
func TestDecodeKeepsTheRest(t *testing.T) {
	broken := replaced(t, good, "port: 80", "port: x")
	second := replaced(t, good, "web", "web2")
	indent := func(text string) string {
		return "- " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
	}
	list := "apiVersion: v1\nkind: List\nitems:\n"
	for name, test := range map[string]struct {
		text string
		line string
	}{
		"documents": {broken + "---\n" + second, "f.yaml:9: Service web: spec.ports[0].port: must be"},
		"syntax":    {"a: [\n---\n" + second, "f.yaml:"},
		"list":      {list + indent(broken) + indent(second), "f.yaml:12: Service web: items[0].spec.ports[0].port: must be"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, problems := decode("f.yaml", []byte(test.text), ordinaryServices())
			if len(objects) != 1 || objects[0].id.name != "web2" {
				t.Errorf("objects %v", objects)
			}
			if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), test.line) {
				t.Errorf("problems %q, want %q", texts(problems), test.line)
			}
		})
	}
}

func TestDecodeFilters(t *testing.T) {
	for name, text := range map[string]string{
		"other proxy":         replaced(t, good, "name: web", "name: web\n  labels:\n    service.kubernetes.io/service-proxy-name: x"),
		"other proxy, empty":  replaced(t, good, "name: web", "name: web\n  labels:\n    service.kubernetes.io/service-proxy-name: ''"),
		"headless":            replaced(t, good, "10.96.0.10", "None"),
		"headless in the set": replaced(t, good, "clusterIP: 10.96.0.10", "clusterIPs: [None]"),
		"headless slice":      replaced(t, goodSlice, "labels:", "labels:\n    service.kubernetes.io/headless: ''"),
	} {
		t.Run(name, func(t *testing.T) {
			objects, problems := decode("f.yaml", []byte(text), ordinaryServices())
			if len(problems) > 0 || len(objects) != 1 || objects[0].service != nil || objects[0].slice != nil {
				t.Errorf("objects %+v, problems %q", objects, texts(problems))
			}
		})
	}
}

func TestDecodeDefaults(t *testing.T) {
	objects, problems := decode("f.yaml", []byte(good+"---\n"+goodSlice), ordinaryServices())
	if len(problems) > 0 || len(objects) != 2 {
		t.Fatalf("%d objects, problems %q", len(objects), texts(problems))
	}
	s, slice := objects[0].service, objects[1].slice
	for what, equal := range map[string]bool{
		"namespace":             s.Namespace == "default" && slice.Namespace == "default",
		"type":                  s.Spec.Type == "ClusterIP",
		"protocol":              s.Spec.Ports[0].Protocol == "TCP" && *slice.Ports[0].Protocol == "TCP",
		"targetPort":            s.Spec.Ports[0].TargetPort.IntVal == 80,
		"clusterIPs":            slices.Equal(s.Spec.ClusterIPs, []string{"10.96.0.10"}),
		"ipFamilies":            len(s.Spec.IPFamilies) == 1 && s.Spec.IPFamilies[0] == "IPv4",
		"sessionAffinity":       s.Spec.SessionAffinity == "None",
		"internalTrafficPolicy": *s.Spec.InternalTrafficPolicy == "Cluster",
		"externalTrafficPolicy": s.Spec.ExternalTrafficPolicy == "",
		"resourceVersion":       s.ResourceVersion != "" && slice.ResourceVersion != "" && s.ResourceVersion != slice.ResourceVersion,
		"UID":                   s.UID != "" && slice.UID != "" && s.UID != slice.UID,
		"creationTimestamp":     s.CreationTimestamp.IsZero(),
	} {
		if !equal {
			t.Errorf("%s: got %+v %+v", what, s, slice)
		}
	}
}

// A file made from kubectl's output has resourceVersions, which no edit
// changes.
func TestResourceVersionFollowsContent(t *testing.T) {
	version := func(text string) string {
		objects, problems := decode("f.yaml", []byte(text), ordinaryServices())
		if len(problems) > 0 {
			t.Fatal(texts(problems))
		}
		return objects[0].service.ResourceVersion
	}
	dumped := replaced(t, good, "name: web", "name: web\n  uid: abc\n  resourceVersion: '7'")
	if version(dumped) != version("# moved\n"+dumped) {
		t.Error("a comment changes the resourceVersion")
	}
	if version(dumped) == version(replaced(t, dumped, "port: 80", "port: 81")) {
		t.Error("another port does not change the resourceVersion")
	}
}
