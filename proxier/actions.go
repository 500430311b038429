package proxier

import "github.com/usher-proxy/usher/proxier/admin"

// actions are what root may have a running Proxier do.
func (p *Proxier) actions() map[string]admin.Action {
	return map[string]admin.Action{
		"/v1/rules/repair": {Do: p.repairRules},
		"/v1/kill":         {Parameters: killParameters, Do: p.killConnections},
		"/v1/drain":        {Parameters: drainParameters, Do: p.drainEndpoint},
		"/v1/undrain":      {Parameters: append([]string{"all"}, drainParameters...), Do: p.undrainEndpoint},
	}
}
