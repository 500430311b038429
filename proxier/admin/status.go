package admin

import "time"

// Status is how a running usher is, in short: /v1/status.
type Status struct {
	Version     string    `json:"version"`
	Node        string    `json:"node"`
	Started     time.Time `json:"started"`
	Upgrades    int       `json:"upgrades"` // in place, since then
	PID         int       `json:"pid"`      // in usher's own namespace
	Capture     string    `json:"capture"`  // iptables or bind
	CaptureWhy  string    `json:"capture_why"`
	Families    []string  `json:"families"` // that are served
	Ready       bool      `json:"ready"`    // the first complete state is being served
	Services    int       `json:"services"`
	Ports       int       `json:"ports"` // Service ports that are served, once for each address family
	Connections int       `json:"connections"`
	UDPSessions int       `json:"udp_sessions"`
	Draining    int       `json:"draining"` // Service ports that are gone, but have connections left

	Source string  `json:"source"`            // where objects come from: the API server, or manifests
	Watch  []Watch `json:"watches,omitempty"` // of the API server
	// StaleSeconds is since when what is served may be out of date, as the API server was
	// not heard of or the last state is served; 0 if it is current.
	StaleSeconds float64    `json:"stale_seconds,omitempty"`
	LastState    *LastState `json:"last_state,omitempty"` // null if none is kept
	Rules        Rules      `json:"rules"`
	Files        Gauge      `json:"files"` // open file descriptors
	Ring         Ring       `json:"ring"`
	Log          Log        `json:"log"`

	// Recent counts what has ended within RecentSeconds by its reason, the most frequent
	// first. It is no longer than five minutes, and shorter if the ring does not reach
	// back so far.
	RecentSeconds float64       `json:"recent_seconds"`
	Recent        []ReasonCount `json:"recent"`
}

// Watch is how current the objects of one kind are.
type Watch struct {
	Resource string `json:"resource"`
	// AgeSeconds is the time since the API server was last heard of, by an object, a
	// bookmark or a list.
	AgeSeconds float64 `json:"age_seconds"`
	Synced     bool    `json:"synced"`
	Lists      uint64  `json:"lists"` // how often all were listed: once, and when the watch could not go on
}

// LastState is the file with the last state, for a start while the API server is away.
type LastState struct {
	File    string     `json:"file"`
	Served  bool       `json:"served"`            // what is served comes from the file
	AsOf    *time.Time `json:"as_of"`             // of what is in the file, null if it is neither read nor written yet
	Bytes   int64      `json:"bytes"`             // as written last
	Failing string     `json:"failing,omitempty"` // why it could not be read or written, empty if it could
}

// Rules is how the writing of the capture goes.
type Rules struct {
	Written       *time.Time `json:"written"`           // last success, null before the first
	Failing       string     `json:"failing,omitempty"` // why the last attempt has failed, empty if it has not
	ForeignWrites uint64     `json:"foreign_writes"`    // how often somebody else's changes were mended
}

// Gauge is how much there is of something that has a limit; 0: none.
type Gauge struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

// Ring is how full the memory of records is.
type Ring struct {
	Held int    `json:"held"`
	Size int    `json:"size"`
	Lost uint64 `json:"lost"` // records that followers were too slow for
}

// Log is what became of records that were to be logged.
type Log struct {
	Dropped uint64 `json:"dropped"` // as whoever reads the log was too slow, or the disk was full
}

// ReasonCount is how often something ended for a reason.
type ReasonCount struct {
	Reason  string `json:"reason"`
	Code    string `json:"code"`
	Side    string `json:"side"`
	Text    string `json:"text"`
	Trouble int    `json:"trouble"` // of Count: those in which a client may have missed something
	Count   int    `json:"count"`
}

// Attention is something that somebody should look at: /v1/attention, the worst first.
type Attention struct {
	Severity string `json:"severity"` // error: clients miss something now; warning: they may
	// Kind, Namespace and Name are the object that it is about: a Service, an
	// EndpointSlice, or the Node.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Port      string `json:"port,omitempty"` // of a Service, as in http/tcp
	Reason    string `json:"reason"`         // CamelCase, as in Kubernetes Events
	Message   string `json:"message"`        // a plain sentence, with what to do where that is known
}

// The severities.
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)
