package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// A Service proxy needs the API server before it can serve anything. If the
// address it was given is the ClusterIP of the Service default/kubernetes, it
// waits for itself for ever. kubelet puts that very address into the
// environment of every Pod, so a DaemonSet falls into this unless its author
// knows. The way out, in an error message:
const apiAddressHint = "set --master=https://HOST:PORT to the API server's own address, " +
	"or KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT in the DaemonSet's env"

// CheckAPIAddress returns an error if usher would have to serve the address of
// its own API server, and nothing else does.
//
// An API server that does not answer is no error as such: it may come up
// later. leftover tells which Service the rules of an earlier usher on this
// node redirect an address for, "" if none; it may be nil. The check takes a
// few seconds if nothing answers.
func CheckAPIAddress(ctx context.Context, config *rest.Config, leftover func(netip.AddrPort) string, log logrus.FieldLogger) error {
	c := addressCheck{
		getenv: os.Getenv, dial: (&net.Dialer{Timeout: 1500 * time.Millisecond}).DialContext,
		attempts: 3, pause: 500 * time.Millisecond, leftover: leftover, log: log,
	}
	return c.run(ctx, config)
}

type addressCheck struct {
	getenv   func(string) string
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	attempts int
	pause    time.Duration
	leftover func(netip.AddrPort) string
	log      logrus.FieldLogger
}

func (c *addressCheck) run(ctx context.Context, config *rest.Config) error {
	if throughProxy(config) {
		return nil // another host makes the connection
	}
	address := apiAddress(config)
	dialErr := c.reach(ctx, address)
	if dialErr == nil {
		return nil // whoever serves it: see warnIfOwnService
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if service, why := c.servedByUsher(address); service != "" {
		return fmt.Errorf("the API server's address %s is a frontend of the Service %s (%s), which usher itself would serve, "+
			"and nothing answers there (%w): %s", address, service, why, dialErr, apiAddressHint)
	}
	c.log.Warnf("the API server %s does not answer yet (%v); trying on. Should this be the ClusterIP of the Service "+
		"default/kubernetes, it never will: %s", address, dialErr, apiAddressHint)
	return nil
}

// reach returns nil as soon as a TCP connection to address succeeds.
func (c *addressCheck) reach(ctx context.Context, address string) error {
	var err error
	for attempt := range c.attempts {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(c.pause):
			}
		}
		var conn net.Conn
		if conn, err = c.dial(ctx, "tcp", address); err == nil {
			conn.Close()
			return nil
		}
	}
	return err
}

// servedByUsher returns the Service that address belongs to, as far as that
// can be known without the API server, and how it is known.
func (c *addressCheck) servedByUsher(address string) (service, why string) {
	api, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", "" // a name: no ClusterIP
	}
	if clusterIP, err := c.kubernetesService(); err == nil && clusterIP == api {
		return "default/kubernetes", "says KUBERNETES_PORT in the environment"
	}
	if c.leftover != nil {
		if service := c.leftover(api); service != "" {
			return service, "say the iptables rules that an earlier usher left"
		}
	}
	return "", ""
}

// kubernetesService returns the ClusterIP and port of default/kubernetes from
// the variables that kubelet sets in every container. KUBERNETES_SERVICE_HOST
// is not used: it is the one that a DaemonSet overrides.
func (c *addressCheck) kubernetesService() (netip.AddrPort, error) {
	if text := c.getenv("KUBERNETES_PORT"); text != "" { // tcp://10.96.0.1:443
		u, err := url.Parse(text)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return netip.ParseAddrPort(u.Host)
	}
	if text := c.getenv("KUBERNETES_PORT_443_TCP_ADDR"); text != "" {
		addr, err := netip.ParseAddr(text)
		return netip.AddrPortFrom(addr, 443), err
	}
	return netip.AddrPort{}, errors.New("not in a Pod")
}

// throughProxy reports whether an HTTP proxy lies between usher and the API
// server.
func throughProxy(config *rest.Config) bool {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return false
	}
	choose := config.Proxy
	if choose == nil {
		choose = http.ProxyFromEnvironment
	}
	proxy, err := choose(&http.Request{URL: base})
	return err == nil && proxy != nil
}

// warnIfOwnService warns when the API server was reached through a frontend of
// the given Service, default/kubernetes: something else on this node still
// serves it, and may go.
func warnIfOwnService(config *rest.Config, kubernetes *corev1.Service, log logrus.FieldLogger) {
	host, port, err := apiHostPort(config)
	if err != nil || !hasFrontend(kubernetes, host, port) {
		return
	}
	log.Warnf("usher talks to the API server through %s, the ClusterIP of the Service default/kubernetes, which it serves itself: "+
		"this works only as long as something else on this node serves it too, and not after a reboot; %s",
		net.JoinHostPort(host, port), apiAddressHint)
}

func hasFrontend(s *corev1.Service, host, port string) bool {
	if !servesPort(s, port) {
		return false
	}
	// In a Pod the Service is also known by name.
	if name := s.Name + "." + s.Namespace; host == name || strings.HasPrefix(host, name+".svc") {
		return true
	}
	api, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, text := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
		if addr, ok := parseAddr(text); ok && addr == api.Unmap() {
			return true
		}
	}
	return false
}

func servesPort(s *corev1.Service, port string) bool {
	for _, p := range s.Spec.Ports {
		if strconv.Itoa(int(p.Port)) == port {
			return true
		}
	}
	return false
}
