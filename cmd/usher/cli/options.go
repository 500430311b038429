package cli

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// options are the flags of usher run, by subject.
type options struct {
	*settings

	file      fileOptions
	source    sourceOptions
	node      nodeOptions
	capture   captureOptions
	frontends frontendOptions
	clients   clientOptions
	endpoints endpointOptions
	limits    limitOptions
	ending    endingOptions
	udp       udpOptions
	timing    timingOptions
	seen      seenOptions
	admin     adminOptions
	kernel    kernelOptions
	running   runningOptions
	kubeProxy kubeProxyOptions
}

// subject are flags that belong together.
type subject interface {
	// define makes the flags and their defaults.
	define(f *pflag.FlagSet)
	// configure checks the values, alone and together, and puts them into cfg.
	configure(o *options, cfg *proxier.Config) error
}

// chapter is a subject with its title in the help.
type chapter struct {
	title   string
	subject subject
}

func newOptions(own Policies) *options {
	o := &options{settings: &settings{places: map[string]place{}, overruled: map[string]place{}, implied: map[string]string{}}}
	o.endpoints.own = own
	for _, c := range o.chapters() {
		o.groups = append(o.groups, newGroup(c.title, c.subject.define))
	}
	return o
}

// chapters are in the order of the help. What a subject is configured with
// depends only on those before it.
func (o *options) chapters() []chapter {
	return []chapter{
		{"Configuration file", &o.file},
		{"Where Services come from", &o.source},
		{"This node", &o.node},
		{"How connections get here", &o.capture},
		{"Which addresses are served", &o.frontends},
		{"Who the client is", &o.clients},
		{"Which endpoint, and what if it fails", &o.endpoints},
		{"How many connections", &o.limits},
		{"How connections end", &o.ending},
		{"UDP sessions", &o.udp},
		{"When changes take effect", &o.timing},
		{"What can be seen", &o.seen},
		{"How a running usher is asked", &o.admin},
		{"What the kernel is asked for", &o.kernel},
		{"How usher runs on its node", &o.running},
		{"Flags of kube-proxy", &o.kubeProxy},
	}
}

// config reads the configuration file, if there is one, checks everything and
// turns it into values. Its error, all of the user's making, is everything that is
// wrong, in the order of the file.
func (o *options) config() (cfg proxier.Config, err error) {
	if err := o.complete(); err != nil {
		return cfg, usageError{err}
	}
	faults := o.faults
	for _, c := range o.chapters() {
		faults = append(faults, c.subject.configure(o, &cfg))
	}
	if err := errors.Join(inOrder(errors.Join(faults...))...); err != nil {
		return cfg, usageError{err}
	}
	o.remarkIdle()
	return cfg, nil
}

// complete finds the value of every flag.
func (o *options) complete() error {
	if err := o.checkNames(); err != nil {
		return err
	}
	if o.file.path != "" {
		if err := o.file.read(o.settings); err != nil {
			return err
		}
	}
	if err := o.kubeProxy.complete(o); err != nil {
		return err
	}
	return o.seen.complete(o)
}
