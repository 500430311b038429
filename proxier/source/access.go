package source

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// Access is what an API server says of itself, and of what we may do there.
type Access struct {
	Address string // HOST:PORT
	Version string // as in v1.36.3
	// Services is how many there are in all namespaces, whoever serves them; -1 if
	// that cannot be told.
	Services int
	// Denied are rights that usher needs and has not, as in "watch services".
	Denied []string
	// DeniedEvents says that usher could write no Events, which it can do without.
	DeniedEvents bool
}

// right is something that usher asks of an API server.
type right struct{ verb, group, resource string }

func (r right) String() string { return r.verb + " " + r.resource }

// rights are those that usher cannot do without.
var rights = []right{
	{"list", "", "services"}, {"watch", "", "services"},
	{"list", "discovery.k8s.io", "endpointslices"}, {"watch", "discovery.k8s.io", "endpointslices"},
	{"list", "", "nodes"}, {"watch", "", "nodes"},
}

var eventRight = right{"create", "", "events"}

// CheckAccess asks an API server what it is and what we may do there
// (SelfSubjectAccessReview). It changes nothing there. It fails if the server does
// not answer within a few seconds, or does not take our credentials. node is the
// name of the own Node.
func CheckAccess(ctx context.Context, config *rest.Config, node string) (Access, error) {
	a := Access{Address: apiAddress(config), Services: -1}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := newAsker(config)
	if err != nil {
		return a, fmt.Errorf("client of the API server %s: %w", a.Address, err)
	}
	defer utilnet.CloseIdleConnectionsFor(c.http.Transport)
	var version struct{ GitVersion string }
	if err := c.ask(ctx, http.MethodGet, "/version", nil, &version); err != nil {
		return a, err
	}
	a.Version = version.GitVersion
	for _, r := range rights {
		name := ""
		if r.resource == "nodes" {
			name = node
		}
		allowed, err := c.allowed(ctx, r, name)
		if err != nil {
			return a, fmt.Errorf("ask whether usher may %v: %w", r, err)
		}
		if !allowed {
			a.Denied = append(a.Denied, r.String())
		}
	}
	if allowed, err := c.allowed(ctx, eventRight, ""); err == nil {
		a.DeniedEvents = !allowed
	}
	a.Services = c.countServices(ctx)
	return a, nil
}

// asker asks in JSON, which has no need of a scheme.
type asker struct {
	http *http.Client
	base *url.URL
}

func newAsker(config *rest.Config) (*asker, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "usher-check"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	return &asker{client, base}, err
}

func (c *asker) ask(ctx context.Context, method, path string, question, answer any) error {
	var body []byte
	if question != nil {
		var err error
		if body, err = json.Marshal(question); err != nil {
			return err
		}
	}
	where, query, _ := strings.Cut(path, "?")
	u := c.base.JoinPath(where)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		var status metav1.Status
		_ = json.Unmarshal(text, &status) // whatever else it is, the code tells something
		return fmt.Errorf("%s %s: %s %s", method, where, resp.Status, status.Message)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s %s: not the answer of an API server: %w", method, where, err)
	}
	return nil
}

func (c *asker) allowed(ctx context.Context, r right, name string) (bool, error) {
	review := authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: r.verb, Group: r.group, Resource: r.resource, Name: name,
		}},
	}
	err := c.ask(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review, &review)
	return review.Status.Allowed, err
}

// countServices reads one Service, and how many more there are.
func (c *asker) countServices(ctx context.Context) int {
	var list struct {
		Metadata metav1.ListMeta
		Items    []struct{}
	}
	if c.ask(ctx, http.MethodGet, "/api/v1/services?limit=1", nil, &list) != nil {
		return -1
	}
	n := len(list.Items)
	if list.Metadata.RemainingItemCount != nil {
		n += int(*list.Metadata.RemainingItemCount)
	}
	return n
}

// pageSize is how many Services are asked for at a time.
const pageSize = 200

// ListServices reads all Services of an API server that are to be served by the proxy of
// that name, as Config has it, within a few seconds.
func ListServices(ctx context.Context, config *rest.Config, serviceProxyName string) (services []*corev1.Service, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := newAsker(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	defer utilnet.CloseIdleConnectionsFor(c.http.Transport)
	ours := servicesOf(serviceProxyName)
	query := url.Values{"limit": {fmt.Sprint(pageSize)}, "labelSelector": {ours.services.String()}}
	for {
		var page corev1.ServiceList
		if err := c.ask(ctx, http.MethodGet, "/api/v1/services?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		for i := range page.Items {
			if ours.wantsService(&page.Items[i]) {
				services = append(services, &page.Items[i])
			}
		}
		if page.Continue == "" {
			return services, nil
		}
		query.Set("continue", page.Continue)
	}
}
