package admin

// Explanation is how a client's connection to a Service would go, found out without
// sending anything: /v1/explain.
type Explanation struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	PortName  string `json:"port_name"`
	Protocol  string `json:"protocol"`
	Family    string `json:"family"`
	Client    string `json:"client"`      // address; empty: nobody in particular
	Kind      string `json:"client_kind"` // node, pod or external
	VIP       string `json:"vip"`         // address:port that it would dial

	Steps      []Step      `json:"steps"` // in the order of the way, up to the one that ends it
	Candidates []Candidate `json:"candidates"`
	// Answer is what the client would get: serve, refuse, silence or reset; Verdict says
	// it in a sentence.
	Answer  string `json:"answer"`
	Verdict string `json:"verdict"`
}

// The results of a Step.
const (
	StepOK   = "ok"
	StepStop = "stop" // the connection ends here
	StepNote = "note" // it goes on, but somebody should know
)

// Step is a station of the way.
type Step struct {
	// Name is address, policy, rule, source (who may), listener, limits, affinity,
	// endpoints, balancer or seen-as (whose address the endpoint sees).
	Name     string   `json:"name"`
	Result   string   `json:"result"`
	Text     string   `json:"text"`               // a plain sentence
	Evidence []string `json:"evidence,omitempty"` // what that is known from, as a rule's text
}

// Candidate is an endpoint, and whether this client could get it.
type Candidate struct {
	EndpointStatus
	// Order is the place in which the balancer would try it now, from 1; 0: it would
	// not, or that is not known before it is asked.
	Order int `json:"order,omitempty"`
	// Share is the part of new connections that it would get, where the policy has fixed
	// ones; 0: unknown.
	Share float64 `json:"share,omitempty"`
}
