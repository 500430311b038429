package proxier

import "github.com/usher-proxy/usher/proxier/admin"

// actions are what root may have a running Proxier do.
func (p *Proxier) actions() map[string]admin.Action {
	return map[string]admin.Action{
		"/v1/rules/repair": {Do: p.repairRules},
	}
}
