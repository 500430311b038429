package proxier

import (
	"context"
	"fmt"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/policyroute"
)

// drift notices that somebody else has changed rules of iptables, without reading them.
type drift struct {
	seen    map[Family]iptables.Generation // after our own last write
	foreign bool                           // somebody has, and nobody has looked yet what
	told    bool                           // that it cannot be noticed
}

// notice compares the generations with those after our own last write.
func (r *redirect) notice() {
	if len(r.drift.seen) == 0 {
		return // nothing is ours yet
	}
	for family, table := range r.tables {
		now, err := table.Generation()
		switch {
		case err != nil && !r.drift.told:
			r.drift.told = true
			r.log.WithError(err).Warn("changes of rules by others are noticed every --sync-period only")
		case err == nil && now != r.drift.seen[family]:
			r.drift.foreign = true
		}
	}
}

// remember has what is there now be our own.
func (r *redirect) remember() {
	for family, table := range r.tables {
		if now, err := table.Generation(); err == nil {
			r.drift.seen[family] = now
		}
	}
}

func (r *redirect) changed() bool {
	r.notice()
	return r.drift.foreign
}

func (r *redirect) expected() (list []CapturedBy) {
	for _, family := range r.families() {
		if rules, known := r.last[family]; known {
			list = append(list, CapturedBy{family.String(), rules.Text(iptables.Family(family))})
		}
	}
	return list
}

func (r *redirect) differences(ctx context.Context) (list []RuleDifference, err error) {
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
			list = append(list, RuleDifference{family.String(), d.String()})
		}
	}
	return list, nil
}

// Routes have no generation: what others change is seen at the next verifying pass.
func (*bind) changed() bool { return false }

func (b *bind) expected() (list []CapturedBy) {
	for _, family := range b.families() {
		if text := b.router.Text(policyroute.Family(family)); text != "" {
			list = append(list, CapturedBy{family.String(), text})
		}
	}
	return list
}

func (b *bind) differences(context.Context) (list []RuleDifference, err error) {
	for _, family := range b.families() {
		found, err := b.router.Differences(policyroute.Family(family))
		if err != nil {
			return list, fmt.Errorf("%s: %w", family, err)
		}
		for _, text := range found {
			list = append(list, RuleDifference{family.String(), text})
		}
	}
	return list, nil
}
