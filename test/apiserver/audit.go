package apiserver

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const (
	auditPolicyFile = "audit-policy.yaml"
	auditFile       = "audit.log"
)

// auditPolicy has the server write down what usher asks, as the tests' user or as the
// ServiceAccount of the example.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: [usher, "system:serviceaccount:kube-system:usher"]
- level: None
`

// A Request is one that usher has made.
type Request struct {
	What string // verb and resource, or path: "watch services"
	Code int    // of the answer, as in HTTP
}

// Denied says that usher lacked the right.
func (r Request) Denied() bool { return r.Code == 401 || r.Code == 403 }

// Requests are all that usher has made so far. A watch is among them once it has begun, and
// again when it has ended.
func (cp *ControlPlane) Requests() []Request {
	cp.t.Helper()
	f, err := os.Open(cp.path(auditFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		cp.t.Fatal(err)
	}
	defer f.Close()
	var all []Request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all = append(all, cp.request(lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		cp.t.Fatal(err)
	}
	return all
}

// request reads a line of the audit log (audit.k8s.io/v1, Event).
func (cp *ControlPlane) request(line []byte) Request {
	var event struct {
		Verb, RequestURI string
		ObjectRef        *struct{ Resource string }
		ResponseStatus   struct{ Code int }
	}
	if err := json.Unmarshal(line, &event); err != nil {
		cp.t.Fatalf("audit log: %v in %s", err, line)
	}
	what := event.RequestURI
	if event.ObjectRef != nil {
		what = event.ObjectRef.Resource
	}
	return Request{What: fmt.Sprintf("%s %s", event.Verb, what), Code: event.ResponseStatus.Code}
}
