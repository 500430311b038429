package annotation

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/usher-proxy/usher/balancer"
)

// maxWeight is the most that one endpoint may weigh. More would let so few of the
// connections go elsewhere that a weight was not what was wanted.
const maxWeight = 100

// Weights are the shares of endpoints that are not all alike. They name endpoints
// by what whoever writes a Service knows of them. The zero value says that all
// weigh the same. Weights are never changed once they are read.
type Weights []weight

// weight is that of the endpoints of one name.
type weight struct {
	selector
	weight int
}

// selector chooses endpoints.
type selector struct {
	by   quality
	name string     // unless by is address
	addr netip.Addr // if by is address
}

// quality is what endpoints are chosen by, the least specific first.
type quality int

const (
	byZone quality = iota
	byNode
	byPod
	byAddress
)

var qualities = map[string]quality{"zone": byZone, "node": byNode, "pod": byPod, "address": byAddress}

// Of returns the weight of an endpoint, 1 to 100. If several name it the most
// specific one counts: its address before its pod, node and zone. What nothing
// names weighs 1.
func (w Weights) Of(e balancer.Endpoint) int {
	found, by := 1, byZone
	for _, one := range w {
		if one.by >= by && one.chooses(e) {
			found, by = one.weight, one.by
		}
	}
	return found
}

func (s selector) chooses(e balancer.Endpoint) bool {
	switch s.by {
	case byZone:
		return s.name == e.Zone
	case byNode:
		return s.name == e.Node
	case byPod: // of the Service's own namespace, as its endpoints are
		_, pod, _ := strings.Cut(e.Pod, "/")
		return s.name == pod
	}
	return s.addr == e.Addr.Addr().Unmap()
}

// readWeights reads zone=eu-1a:3,node=big-1:2,pod=web-0:5,address=[fd00::7]:4.
func readWeights(value string) (Weights, error) {
	var all Weights
	taken := map[selector]bool{}
	for _, text := range items(value) {
		one, err := readWeight(text)
		if err != nil {
			return nil, err
		}
		if taken[one.selector] {
			return nil, fmt.Errorf("%s names what was named before it", quoted(text))
		}
		taken[one.selector] = true
		all = append(all, one)
	}
	return all, nil
}

func readWeight(text string) (weight, error) {
	kind, rest, _ := strings.Cut(text, "=")
	by, known := qualities[strings.TrimSpace(kind)]
	colon := strings.LastIndexByte(rest, ':')
	if !known || colon < 0 {
		return weight{}, wrongWeight(text)
	}
	w := weight{selector: selector{by: by, name: strings.TrimSpace(rest[:colon])}}
	err := readInt(&w.weight, rest[colon+1:], 1, maxWeight)
	if err != nil || w.name == "" {
		return weight{}, wrongWeight(text)
	}
	if by == byAddress {
		if w.addr, err = readAddress(w.name); err != nil {
			return weight{}, wrongWeight(text)
		}
		w.name = ""
	}
	return w, nil
}

// readAddress wants brackets around an IPv6 address, so that its end is not taken
// for the weight.
func readAddress(text string) (netip.Addr, error) {
	inside, opened := strings.CutPrefix(text, "[")
	inside, closed := strings.CutSuffix(inside, "]")
	addr, err := netip.ParseAddr(inside)
	if err != nil || addr.Zone() != "" || opened != closed || opened != addr.Is6() {
		return addr, fmt.Errorf("no IPv4 address, nor an IPv6 address in brackets")
	}
	return addr.Unmap(), nil
}

func wrongWeight(text string) error {
	return fmt.Errorf("%s is none of zone=NAME:WEIGHT, node=NAME:WEIGHT, pod=NAME:WEIGHT, address=IPV4:WEIGHT and address=[IPV6]:WEIGHT, with a weight from 1 to %d",
		quoted(text), maxWeight)
}
