package annotation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Prefix begins the names of all annotations that are meant for usher.
const Prefix = "usher-proxy.io/"

// Bounds on what one Service may say. There are fewer annotations than maxKeys.
const (
	maxKeys  = 64
	maxValue = 256 // bytes
)

// Fault is an annotation, or a part of what it says, that has no effect.
type Fault struct {
	Key   string // with the prefix, as it is in the Service
	Value string // its beginning if it is long
	// Why is a sentence about it for people: what it is, what is wanted, and what
	// counts instead. It has no line breaks and is the same on every node.
	Why string
}

// Parse returns what the annotations of a Service ask for, and what is wrong with
// them, sorted by key. What they do not say, or say wrongly, is as in defaults.
// policies are the names that balancer may have: the built-in ones and the user's
// own. An empty value is the same as no annotation; blanks around a value and
// around the items of a list do not matter.
//
// Parse is the same on every node with the same flags, and never fails. It may be
// called by several goroutines at once.
func Parse(annotations map[string]string, defaults Settings, policies []string) (Settings, []Fault) {
	p := parser{Settings: defaults, defaults: defaults, said: annotations, policies: policies}
	for i, key := range ours(annotations) {
		if i < maxKeys {
			p.judge(key)
		} else {
			p.fault(key, "annotation %s is not read: a Service may have %d of %s, and so many come before it in the alphabet", quoted(key), maxKeys, Prefix)
		}
	}
	p.relate()
	slices.SortStableFunc(p.faults, func(a, b Fault) int { return cmp.Compare(a.Key, b.Key) })
	return p.Settings, p.faults
}

// ours are the keys with the prefix, sorted.
func ours(annotations map[string]string) []string {
	var keys []string
	for key := range annotations {
		if strings.HasPrefix(key, Prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Set changes s as an annotation of that name, without the prefix, does: what
// flags say in the same words is read here. It returns what is wanted if the
// value means nothing, and then leaves s as it is. Relations between settings are
// not looked at.
func (s *Settings) Set(name, value string, policies []string) error {
	e, known := byName[name]
	if !known {
		return fmt.Errorf("there is no annotation %s%s", Prefix, name)
	}
	if len(value) > maxValue {
		return fmt.Errorf("want at most %d bytes", maxValue)
	}
	if value = strings.TrimSpace(value); value == "" {
		return errors.New("want a value")
	}
	return e.set(s, value, policies)
}

// parser is one call of Parse.
type parser struct {
	Settings
	defaults Settings
	said     map[string]string
	policies []string
	faults   []Fault
	taken    []string // names whose values count
}

func (p *parser) fault(key, format string, args ...any) {
	p.faults = append(p.faults, Fault{Key: key, Value: abridged(p.said[key]), Why: fmt.Sprintf(format, args...)})
}

// meaningless is the fault of an annotation that is known.
func (p *parser) meaningless(key string, want error) {
	p.fault(key, "annotation %s: %s means nothing, and the default counts: %v", key, quoted(p.said[key]), want)
}

// judge takes one annotation, or finds fault with it.
func (p *parser) judge(key string) {
	name := strings.TrimPrefix(key, Prefix)
	if _, known := byName[name]; !known {
		p.fault(key, "annotation %s is unknown and has no effect: %s", quoted(key), alternatives(name))
		return
	}
	if strings.TrimSpace(p.said[key]) == "" {
		return
	}
	if err := p.Set(name, p.said[key], p.policies); err != nil {
		p.meaningless(key, err)
		return
	}
	p.taken = append(p.taken, name)
}

// alternatives says what may be meant by an unknown name.
func alternatives(unknown string) string {
	names := names()
	if nearest, found := Nearest(strings.ToLower(unknown), names); found {
		return fmt.Sprintf("do you mean %s%s?", Prefix, nearest)
	}
	return "known are " + strings.Join(names, ", ")
}

// relate settles what contradicts each other. The shorter of two times gives way;
// there is no fault if nobody asked for it. It names what has no effect beside
// another annotation.
func (p *parser) relate() {
	if p.Retry.Attempts == 1 && p.Retry.Hedge > 0 {
		p.inert("hedge", "retries is 0, and an attempt beside another one is a retry")
	}
	if r := &p.Retry; r.Timeout > r.Total {
		p.givesWay("connect-timeout", fmt.Errorf("want at most total-connect-timeout, which is %s", short(r.Total)))
		r.Timeout = min(p.defaults.Retry.Timeout, r.Total)
	}
	if c := &p.Outlier.Check; c.Timeout >= c.Interval {
		p.givesWay("health-timeout", fmt.Errorf("want less than health-interval, which is %s", short(c.Interval)))
		c.Timeout = min(p.defaults.Outlier.Check.Timeout, c.Interval/2)
	}
}

// inert names an annotation that means something, but not here.
func (p *parser) inert(name, why string) {
	if slices.Contains(p.taken, name) {
		p.fault(Prefix+name, "annotation %s has no effect: %s", Prefix+name, why)
	}
}

func (p *parser) givesWay(name string, want error) {
	if slices.Contains(p.taken, name) {
		p.meaningless(Prefix+name, want)
	}
}
