package preflight

import (
	"context"

	"k8s.io/client-go/rest"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/kubeproxy"
)

// Level says how bad a Result is.
type Level string

const (
	OK   Level = "OK"
	Warn Level = "WARN" // usher works, but not as well or not for all
	Fail Level = "FAIL" // usher does not start, or serves nobody
)

// Result is what a check has found.
type Result struct {
	Name  string `json:"name"`
	Level Level  `json:"level"`
	Text  string `json:"text"`         // what is so
	Do    string `json:"do,omitempty"` // what to do about it; never empty but for OK
}

// Config is what is to be checked for.
type Config struct {
	// Proxier is as usher run has it; Source, Log and Registry may be nil.
	Proxier proxier.Config
	// Manifests are the paths that Services come from; empty: an API server.
	Manifests []string
	// LogFile is where records go; empty: to stderr.
	LogFile string
	// ServiceProxyName chooses the Services, as Config of package source has it.
	ServiceProxyName string
	// REST is how to reach the API server, nil with RESTError why that is unknown.
	REST      *rest.Config
	RESTError error
	// PolicyRouting tries whether rules of policy routing can be made. It removes
	// what it makes. nil: only whether there are any is looked at.
	PolicyRouting func() error
}

// node is what several checks need to know.
type node struct {
	Config
	backends  []iptables.Backend
	kubeProxy kubeproxy.Traces
	services  int  // in the cluster; -1: unknown
	binds     bool // usher will bind addresses, as told or for want of iptables
}

// Failed says whether any of the results is a Fail.
func Failed(results []Result) bool {
	for _, r := range results {
		if r.Level == Fail {
			return true
		}
	}
	return false
}

// Run makes all checks, one after the other, within some 30 seconds at most: they
// wait for nothing but the API server. Their order is that of the report.
func Run(ctx context.Context, c Config) []Result {
	n := &node{Config: c, services: -1, binds: c.Proxier.Capture == "bind"}
	n.backends = iptables.Backends(ctx)
	n.kubeProxy = kubeproxy.Find(ctx)
	var results []Result
	for _, check := range []struct {
		name string
		run  func(context.Context, *node) Result
	}{
		{"services", services}, // first: others need to know how many there are
		{"capabilities", capabilities},
		{"iptables", iptables4},
		{"ip6tables", iptables6},
		{"backends", backends},
		{"kube-proxy", kubeProxy},
		{"client address", clientAddress},
		{"policy routing", policyRouting},
		{"refusals", refusals},
		{"other servers", otherServers},
		{"files", files},
		{"log file", logFile},
		{"ports", ports},
		{"somaxconn", somaxconn},
		{"conntrack", conntrack},
		{"rp_filter", rpFilter},
	} {
		r := check.run(ctx, n)
		r.Name = check.name
		results = append(results, r)
	}
	return results
}

// mayUseIPTables says whether --capture leaves the choice.
func (n *node) mayUseIPTables() bool { return n.Proxier.Capture != "bind" }

// mustUseIPTables says whether there is no other choice.
func (n *node) mustUseIPTables() bool { return n.Proxier.Capture == "iptables" }

// asRoot is what to do about what only root can see.
const asRoot = "run 'usher check' as root, as usher will run"

// ok, warn and fail are the three kinds of Result.
func ok(text string) Result       { return Result{Level: OK, Text: text} }
func warn(text, do string) Result { return Result{Level: Warn, Text: text, Do: do} }
func fail(text, do string) Result { return Result{Level: Fail, Text: text, Do: do} }

// orWarn is a Fail if it is certain, else a Warn.
func orWarn(certain bool, text, do string) Result {
	if certain {
		return fail(text, do)
	}
	return warn(text, do)
}
