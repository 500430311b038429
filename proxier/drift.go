package proxier

import (
	"context"
	"fmt"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/policyroute"
)

// drift is what a capture by iptables knows of others who write rules.
type drift struct {
	witness *iptables.Witness // nil before the first pass
	foreign bool              // somebody has, and nobody has looked yet what
	certain bool              // if nobody is seen to have, nobody has
	told    bool              // that it cannot be noticed
}

// notice looks whether somebody else has written rules, which costs microseconds.
func (r *redirect) notice() {
	if r.drift.witness == nil {
		return // nothing is ours yet
	}
	changed, certain, err := r.drift.witness.Changed()
	r.drift.foreign, r.drift.certain = r.drift.foreign || changed, certain
	if err != nil && !r.drift.told {
		r.drift.told = true
		r.log.WithError(err).Warn("changes of rules by others are noticed every --sync-period only")
	}
}

// noticeFromNow is called when rules have been written: where a write of our own hides
// one of others, it does so for a moment only.
func (r *redirect) noticeFromNow() {
	if r.drift.witness != nil {
		r.notice()
		return
	}
	tables := make([]*iptables.Table, 0, len(r.tables))
	for _, family := range r.families() {
		tables = append(tables, r.tables[family])
	}
	r.drift.witness = iptables.NewWitness(tables...)
	r.drift.witness.Changed() // from here
}

func (r *redirect) changed() bool {
	r.notice()
	return r.drift.foreign
}

func (r *redirect) expected() (list []admin.CapturedBy) {
	for _, family := range r.families() {
		if rules, known := r.last[family]; known {
			list = append(list, admin.CapturedBy{Family: family.String(), Text: rules.Text(iptables.Family(family))})
		}
	}
	return list
}

func (r *redirect) differences(ctx context.Context) (list []admin.RuleDifference, err error) {
	for _, family := range r.families() {
		rules, known := r.last[family]
		if !known {
			continue
		}
		found, err := r.tables[family].Diff(ctx, rules)
		if err != nil {
			return list, err
		}
		for _, d := range found {
			list = append(list, admin.RuleDifference{Family: family.String(), Text: d.String()})
		}
	}
	return list, nil
}

func (b *bind) changed() bool {
	changed, err := b.router.Changed()
	if err != nil {
		b.once("changes of rules and routes by others are noticed every --sync-period only", err)
	}
	return changed
}

func (b *bind) expected() (list []admin.CapturedBy) {
	for _, family := range b.families() {
		if text := b.router.Text(policyroute.Family(family)); text != "" {
			list = append(list, admin.CapturedBy{Family: family.String(), Text: text})
		}
	}
	return list
}

func (b *bind) differences(context.Context) (list []admin.RuleDifference, err error) {
	for _, family := range b.families() {
		found, err := b.router.Differences(policyroute.Family(family))
		if err != nil {
			return list, fmt.Errorf("%s: %w", family, err)
		}
		for _, text := range found {
			list = append(list, admin.RuleDifference{Family: family.String(), Text: text})
		}
	}
	return list, nil
}
