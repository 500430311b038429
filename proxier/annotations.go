package proxier

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/udp"
)

// annotationPrefix begins the annotations of a Service that are meant for us.
// The fields of a Service always come first; annotations say what no field can.
const annotationPrefix = "usher-proxy.io/"

// annotated is what a Service asks for by annotations.
type annotated struct {
	proxyProtocol byte // version of the header that TCP endpoints get; 0: none
	udp           udp.Limits
}

// annotations are those that have a meaning, by their names after the prefix. Each
// reads its value, or says what it wants instead.
var annotations = map[string]func(*annotated, string) error{
	// proxy-protocol, v1 or v2, makes every connection to an endpoint begin with a
	// header that tells the client's address.
	"proxy-protocol": func(a *annotated, value string) error {
		version, ok := map[string]byte{"v1": 1, "v2": 2}[value]
		if !ok {
			return errors.New("want v1 or v2")
		}
		a.proxyProtocol = version
		return nil
	},
	// These three stand for the flags of the same names (--udp-max-sessions-per-service
	// for the last).
	"udp-idle-timeout": func(a *annotated, value string) error {
		return parseTimeout(&a.udp.Idle, value, time.Hour)
	},
	"udp-stream-timeout": func(a *annotated, value string) error {
		return parseTimeout(&a.udp.Stream, value, 24*time.Hour)
	},
	"udp-max-sessions": func(a *annotated, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxSessions {
			return fmt.Errorf("want a number from 1 to %d", maxSessions)
		}
		a.udp.Sessions = n
		return nil
	},
}

// maxSessions is the most that a Service may ask for; how many it gets depends on
// the limit for all.
const maxSessions = 1_000_000

func parseTimeout(into *time.Duration, value string, most time.Duration) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Second || d > most {
		return fmt.Errorf("want a duration from 1s to %s", most)
	}
	*into = d
	return nil
}

// annotated reads the annotations of a Service. Each is judged alone; one that
// means nothing has no effect.
func (d *desired) annotated(s *corev1.Service) annotated {
	a := annotated{udp: d.udp}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		name, ours := strings.CutPrefix(key, annotationPrefix)
		if !ours {
			continue
		}
		read, known := annotations[name]
		if !known {
			d.problem(s.Namespace, s.Name, "InvalidUsherAnnotation",
				fmt.Sprintf("annotation %q is unknown and has no effect: known are %s", key, knownAnnotations()))
			continue
		}
		if value := s.Annotations[key]; value != "" {
			if err := read(&a, value); err != nil {
				d.problem(s.Namespace, s.Name, "InvalidUsherAnnotation",
					fmt.Sprintf("annotation %s: %q means nothing and has no effect: %v", key, value, err))
			}
		}
	}
	return a
}

func knownAnnotations() string {
	names := slices.Sorted(maps.Keys(annotations))
	return annotationPrefix + strings.Join(names, ", "+annotationPrefix)
}
