package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/source"
)

// sourceOptions say where Services come from, and which.
type sourceOptions struct {
	kubeconfig, master string
	qps                float32
	burst              int
	contentType        string
	manifests          []string
	serviceProxyName   string
	withKubeProxy      bool
	lastState          string
	lastStateMaxAge    time.Duration
}

func (s *sourceOptions) define(f *pflag.FlagSet) {
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "`file` with the address and credentials of the API server (default: in-cluster credentials)")
	f.StringVar(&s.master, "master", "", "`address` of a real API server; replaces only the host, never token or CA")
	f.Float32Var(&s.qps, "kube-api-qps", 20, "requests a second to the API server; -1 for any `number`")
	f.IntVar(&s.burst, "kube-api-burst", 40, "`number` of requests at once beyond that")
	f.StringVar(&s.contentType, "kube-api-content-type", runtime.ContentTypeProtobuf, "`type` of what is sent to the API server: this or "+runtime.ContentTypeJSON)
	f.StringArrayVar(&s.manifests, "manifests", nil, "YAML `path`, file or folder, to read objects from and to watch, instead of an API server; repeatable")
	f.StringVar(&s.lastState, "last-state", "", "`file` that keeps what the API server last told, to serve it after a start while no API server answers; a name without a folder is one in systemd's $STATE_DIRECTORY. Empty keeps none")
	f.DurationVar(&s.lastStateMaxAge, "last-state-max-age", 24*time.Hour, "`time` since the API server agreed after which such a state is not served: the addresses in it may have other owners by then; 0 is any")
	f.StringVar(&s.serviceProxyName, "service-proxy-name", "", "serve only the Services whose label service.kubernetes.io/service-proxy-name is this `name`, "+
		"beside a kube-proxy that serves all others; health and metrics then have addresses of their own by default, see there (default: the Services without that label)")
	f.BoolVar(&s.withKubeProxy, "with-kube-proxy", false, "start even if kube-proxy, or what it left, serves Services on this node; not needed with --service-proxy-name")
}

func (s *sourceOptions) configure(o *options, cfg *proxier.Config) error {
	var errs []error
	if len(s.manifests) > 0 && (s.kubeconfig != "" || s.master != "") {
		errs = append(errs, o.about("manifests", " takes the place of an API server: it cannot be combined with --kubeconfig or --master"))
	}
	if strings.Contains(s.master, "@") { // settings are shown to whoever may read metrics
		errs = append(errs, o.about("master", ": want an address without credentials: they belong into the kubeconfig"))
	}
	cfg.AllowLoopbackEndpoints = len(s.manifests) > 0
	switch {
	case s.serviceProxyName != "":
		cfg.KubeProxy = proxier.BesideKubeProxy
	case s.withKubeProxy:
		cfg.KubeProxy = proxier.IgnoreKubeProxy
	}
	if s.qps <= 0 && s.qps != -1 {
		errs = append(errs, o.fault("kube-api-qps", fmt.Sprint(s.qps), "want more than 0, or -1 for no limit"))
	}
	if s.burst < 1 {
		errs = append(errs, o.fault("kube-api-burst", fmt.Sprint(s.burst), "want 1 or more"))
	}
	if err := s.checkLastState(o); err != nil {
		return err
	}
	if s.contentType != runtime.ContentTypeProtobuf && s.contentType != runtime.ContentTypeJSON {
		errs = append(errs, o.fault("kube-api-content-type", s.contentType, "want %s or %s", runtime.ContentTypeProtobuf, runtime.ContentTypeJSON))
	}
	if faults := validation.IsValidLabelValue(s.serviceProxyName); len(faults) > 0 {
		errs = append(errs, o.fault("service-proxy-name", s.serviceProxyName, "no Service can have this label: %s", strings.Join(faults, ", ")))
	}
	return errors.Join(errs...)
}

// checkLastState leaves out whether there is a folder for it: that may be so only where
// usher runs.
func (s *sourceOptions) checkLastState(o *options) error {
	switch {
	case s.lastStateMaxAge < 0:
		return o.fault("last-state-max-age", s.lastStateMaxAge.String(), "want a time, or 0 for any")
	case s.lastState == "":
		return nil
	case len(s.manifests) > 0:
		return fmt.Errorf("%s is for an API server: it cannot be combined with %s, which are files already", o.label("last-state"), o.label("manifests"))
	case !filepath.IsAbs(s.lastState) && filepath.Base(s.lastState) != s.lastState || strings.HasSuffix(s.lastState, "/") || strings.Trim(s.lastState, ".") == "":
		return o.fault("last-state", s.lastState, "want an absolute path, or in a unit of systemd with StateDirectory= the name of a file there")
	}
	return nil
}

// lastStateFile is the file with the last state, "" for none.
func (s *sourceOptions) lastStateFile() (string, error) {
	if s.lastState == "" || filepath.IsAbs(s.lastState) {
		return s.lastState, nil
	}
	folder, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":") // systemd.exec(5): there may be several
	if folder == "" {
		return "", usageError{fmt.Errorf("--last-state=%s: a name without a folder needs $STATE_DIRECTORY, which systemd sets for a unit with StateDirectory=; else give an absolute path", s.lastState)}
	}
	return filepath.Join(folder, s.lastState), nil
}

// open returns the source for a node, which another process may serve until this one does.
func (s *sourceOptions) open(ctx context.Context, cfg *proxier.Config, served bool) (source.Source, error) {
	if len(s.manifests) > 0 {
		return source.NewManifests(s.manifests, cfg.NodeName, s.serviceProxyName, cfg.Log)
	}
	lastState, err := s.lastStateFile()
	if err != nil {
		return nil, err
	}
	config, err := source.RESTConfig(s.kubeconfig, s.master)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst, config.ContentType = s.qps, s.burst, s.contentType
	// Otherwise kube-proxy serves the API server's Service, or we do, as soon as this is opened.
	if s.serviceProxyName == "" && !served {
		if err := source.CheckAPIAddress(ctx, config, proxier.Leftover(ctx), cfg.Log); err != nil {
			return nil, err
		}
	}
	return source.NewAPI(source.Config{
		REST: config, NodeName: cfg.NodeName, ServiceProxyName: s.serviceProxyName, Log: cfg.Log,
		LastState: lastState, LastStateMaxAge: s.lastStateMaxAge,
	})
}
