package cli

import (
	"context"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// completionPatience is how long a shell waits for words that usher knows.
const completionPatience = time.Second

// known asks usher for words. If it does not answer in time there are none.
func known[T any](cmd *cobra.Command, path string, query url.Values, words func(T) []string) []string {
	socket := cmd.Flag("admin-socket")
	if socket == nil {
		return nil
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	var answer T
	if admin.Get(ctx, socket.Value.String(), path, query, &answer) != nil {
		return nil
	}
	list := words(answer)
	for i := range list {
		list[i] = observe.Printable(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// beginning are the words that begin as what is typed.
func beginning(words []string, typed string) ([]string, cobra.ShellCompDirective) {
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, typed) }), cobra.ShellCompDirectiveNoFileComp
}

// nothingMore completes nothing, not even files.
func nothingMore(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// words completes some that are known beforehand.
func words(list ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return beginning(slices.Clone(list), typed)
	}
}

func completeNamespaces(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return beginning(known(cmd, "/v1/services", nil, func(services []admin.Service) (names []string) {
		for _, s := range services {
			names = append(names, s.Namespace)
		}
		return names
	}), typed)
}

// completeServices knows NAME in the namespace of the command line, and NAMESPACE/NAME.
func completeServices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	namespace := ""
	if f := cmd.Flag("namespace"); f != nil {
		namespace = f.Value.String()
	}
	names := known(cmd, "/v1/services", nil, func(services []admin.Service) (names []string) {
		for _, s := range services {
			if s.Namespace == namespace && !strings.Contains(typed, "/") {
				names = append(names, s.Name)
			} else {
				names = append(names, s.Namespace+"/"+s.Name)
			}
		}
		return names
	})
	return beginning(slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) }), typed)
}

func completeConnections(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	ids := known(cmd, "/v1/connections", nil, func(c admin.Connections) (ids []string) {
		for _, c := range c.Connections {
			ids = append(ids, c.ID)
		}
		return ids
	})
	return beginning(slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(args, id) }), typed)
}

// completePods knows those of the endpoints.
func completePods(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return beginning(known(cmd, "/v1/endpoints", nil, func(ports []admin.ServicePort) (pods []string) {
		for _, p := range ports {
			for _, e := range p.Endpoints {
				if e.Pod != "" {
					pods = append(pods, e.Pod)
				}
			}
		}
		return pods
	}), typed)
}

// completeEndpoints knows the addresses of all endpoints.
func completeEndpoints(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return beginning(known(cmd, "/v1/endpoints", nil, func(ports []admin.ServicePort) (addresses []string) {
		for _, p := range ports {
			for _, e := range p.Endpoints {
				addresses = append(addresses, e.Address)
			}
		}
		return addresses
	}), typed)
}

// completeDrainable knows what usher drain takes: an endpoint by its address or its pod.
func completeDrainable(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nothingMore(cmd, args, typed)
	}
	addresses, how := completeEndpoints(cmd, args, typed)
	pods, _ := completePods(cmd, args, typed)
	return slices.Concat(addresses, pods), how
}

// completeReasons knows those that a flow may have ended for.
func completeReasons(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, r := range observe.Reasons() {
		names = append(names, string(r)+"\t"+r.Text())
	}
	return beginning(names, typed)
}

// flagWords completes the values of those flags that a command has.
func flagWords(cmd *cobra.Command, more map[string]cobra.CompletionFunc) {
	all := map[string]cobra.CompletionFunc{
		"namespace": completeNamespaces, "service": completeServices, "to-service": completeServices, "pod": completePods,
		"client": nothingMore, "selector": nothingMore, "older": nothingMore, "limit": nothingMore,
	}
	maps.Copy(all, more)
	for name, complete := range all {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // it has none yet
		}
	}
}

// completions are what a shell may offer for a usher get.
func (k kind[T, R]) completions(cmd *cobra.Command, _ *getter) {
	cmd.ValidArgsFunction = k.complete
	if k.complete == nil {
		cmd.ValidArgsFunction = completeServices
	}
	flagWords(cmd, map[string]cobra.CompletionFunc{
		"output": words("table", "wide", "json", "yaml", "name", "jsonpath="), "sort-by": words(titles(k.columns)...),
	})
}

// The names by which kubectl calls a plugin, and asks it for completions.
const (
	pluginName       = "kubectl-usher"
	pluginCompletion = "kubectl_complete-usher"
)

// calledAs makes the command fit the name of its program, argv[0]: as a plugin it is
// kubectl usher (https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/).
func calledAs(root *cobra.Command, program string, args []string) []string {
	switch name := filepath.Base(program); name {
	case pluginName, pluginCompletion:
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl usher"}
		if name == pluginCompletion {
			return append([]string{cobra.ShellCompRequestCmd}, args...)
		}
	}
	return args
}
