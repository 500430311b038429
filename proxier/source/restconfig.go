package source

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// RESTConfig returns how to reach the API server and as whom.
//
// With kubeconfig, a file name, that file says both: its current-context.
// Without, the Pod's service account does. master, if given, replaces the
// address of the API server and nothing else: neither credentials nor what TLS
// verifies them with. It may be a URL, host:port or a host; the scheme of the
// two latter is https, the port of the last 443.
func RESTConfig(kubeconfig, master string) (*rest.Config, error) {
	return restConfig(kubeconfig, master, rest.InClusterConfig)
}

func restConfig(kubeconfig, master string, inCluster func() (*rest.Config, error)) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig != "" {
		config, err = fromKubeconfig(kubeconfig)
	} else {
		config, err = fromServiceAccount(inCluster)
	}
	if err != nil || master == "" {
		return config, err
	}
	host, err := masterURL(master)
	if err != nil {
		return nil, err
	}
	if host.Scheme == "http" && usesTLS(config) {
		return nil, fmt.Errorf("--master=%s: http would send the credentials in clear text; use https", master)
	}
	config.Host = host.String()
	return config, nil
}

func fromKubeconfig(file string) (*rest.Config, error) {
	// Load also resolves the relative file names inside.
	loaded, err := (&clientcmd.ClientConfigLoadingRules{ExplicitPath: file}).Load()
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig=%s: %w", file, err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*loaded, &clientcmd.ConfigOverrides{}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("--kubeconfig=%s: it names no cluster; see that current-context names a context which does", file)
	}
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig=%s: %w", file, err)
	}
	return config, nil
}

func fromServiceAccount(inCluster func() (*rest.Config, error)) (*rest.Config, error) {
	config, err := inCluster()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no API server: usher does not run in a cluster's Pod; give --kubeconfig=FILE, or --manifests=PATH to serve YAML files without a cluster")
	}
	if err != nil {
		return nil, fmt.Errorf("this Pod's service account: %w; see that automountServiceAccountToken is not false, or give --kubeconfig=FILE", err)
	}
	return config, nil
}

// masterURL completes what was given as --master.
func masterURL(master string) (*url.URL, error) {
	text := master
	if addr, err := netip.ParseAddr(master); err == nil && addr.Is6() {
		text = "[" + master + "]"
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--master=%s: %w", master, err)
	}
	if u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("--master=%s: want https://HOST:PORT, HOST:PORT or HOST", master)
	}
	return u, nil
}

func usesTLS(config *rest.Config) bool {
	base, _, err := rest.DefaultServerUrlFor(config)
	return err == nil && base.Scheme == "https"
}

// apiHostPort returns host and port of the API server. The host may be a name.
func apiHostPort(config *rest.Config) (host, port string, err error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return "", "", fmt.Errorf("address of the API server %q: %w", config.Host, err)
	}
	port = base.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[base.Scheme]
	}
	return base.Hostname(), port, nil
}

// apiAddress is apiHostPort for people: "10.0.0.5:6443".
func apiAddress(config *rest.Config) string {
	host, port, err := apiHostPort(config)
	if err != nil {
		return config.Host
	}
	return net.JoinHostPort(host, port)
}
