package proxier

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/usher-proxy/usher/proxier/admin"
)

// Status returns the present one. It is safe for concurrent use.
func (p *Proxier) Status() admin.Status {
	s := admin.Status{
		Version: p.cfg.Version, Node: p.cfg.NodeName, Capture: p.data.capture.String(), CaptureWhy: p.captureWhy,
		Connections: p.data.connections.count(), UDPSessions: p.data.packets.Len(),
	}
	for _, f := range p.data.capture.families() {
		s.Families = append(s.Families, f.String())
	}
	select {
	case <-p.ready:
		s.Ready = true
	default:
	}
	if seen := p.seen.Load(); seen != nil {
		s.Ports = len(seen.serving)
	}
	return s
}

// Endpoints tells of the endpoints of a namespace's Service; where one of the names
// is empty, of all. It is empty before the first pass, and safe for concurrent use.
func (p *Proxier) Endpoints(namespace, service string) []admin.ServicePort {
	list := []admin.ServicePort{}
	seen := p.seen.Load()
	if seen == nil {
		return list
	}
	for _, s := range seen.ports() {
		if (namespace == "" || namespace == s.key.Namespace) && (service == "" || service == s.key.Name) {
			list = append(list, newPortView(seen.desired, s).status())
		}
	}
	return list
}

// views are what the admin socket shows.
func (p *Proxier) views() map[string]admin.View {
	return map[string]admin.View{
		"/v1/status":     {Show: func(url.Values) (any, error) { return p.Status(), nil }},
		"/v1/rules":      {Show: p.showRules},
		"/v1/rules/diff": {Show: p.showRuleDifferences},
		"/v1/endpoints":  {Parameters: []string{"namespace", "service"}, Show: p.showEndpoints},
	}
}

func (p *Proxier) showEndpoints(q url.Values) (any, error) {
	namespace, service := q.Get("namespace"), q.Get("service")
	list := p.Endpoints(namespace, service)
	switch {
	case p.seen.Load() == nil:
		return nil, &admin.Error{Status: http.StatusServiceUnavailable, Message: "usher has just begun and serves nothing yet; try again"}
	case len(list) == 0 && service != "":
		return nil, &admin.Error{Status: http.StatusNotFound,
			Message: fmt.Sprintf("no %s is served on this node", serviceRef(namespace, service))}
	}
	return list, nil
}

// seen is a pass for those who ask about it from other goroutines. What it leads to
// is never changed, or is safe for concurrent use.
type seen struct {
	*desired
	serving []*listener
}

type seenPort struct {
	*listener
	*state
}

// ports are those that are served, as they are now.
func (s *seen) ports() []seenPort {
	list := make([]seenPort, 0, len(s.serving))
	for _, l := range s.serving {
		if now := l.current.Load(); now != nil {
			list = append(list, seenPort{l, now})
		}
	}
	return list
}
