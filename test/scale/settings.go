package scale

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// What the environment may say.
const (
	servicesEnv   = "USHER_SCALE_SERVICES"    // how many Services the benchmark has, 10000 if unset
	usherFlagsEnv = "USHER_SCALE_USHER_FLAGS" // further flags of usher, separated by spaces
	resultsEnv    = "USHER_SCALE_RESULTS"     // folder for the JSON file; none if unset
	profileEnv    = "USHER_SCALE_PROFILE"     // folder for profiles of usher, which is there: CPU of a start, heap in the end; none if unset
	onlyEnv       = "USHER_SCALE_USHER_ONLY"  // anything: without kube-proxy
)

// perService is how many endpoints each Service has.
const perService = 5

// A plan is how much is measured, and for how long.
type plan struct {
	services int
	starts   int           // of each proxy, alternately
	patience time.Duration // for a start, until the last Service answers

	changes    int           // Services added, and then as many whose endpoints change
	pause      time.Duration // between two of them
	changeTime time.Duration // after which no more are begun

	rounds   int           // of connections as fast as they are answered
	load     time.Duration // how long each of them lasts
	churn    time.Duration
	changing int // changes a second of the churn
	asking   int // connections a second to one Service meanwhile

	reference bool // kube-proxy too
}

// fullPlan is that of issue 6, in less than nine minutes.
func fullPlan() (plan, error) {
	p := plan{
		services: 10_000, starts: 2, patience: time.Minute,
		changes: 100, pause: 100 * time.Millisecond, changeTime: 30 * time.Second,
		rounds: 4, load: 3 * time.Second,
		churn: time.Minute, changing: 100, asking: 200,
		reference: os.Getenv(onlyEnv) == "",
	}
	text := os.Getenv(servicesEnv)
	if text == "" {
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 || n > maxServices {
		return p, fmt.Errorf("%s=%s: want a number from 2 to %d", servicesEnv, text, maxServices)
	}
	p.services = n
	return p, nil
}

// fewPlan has everything in it that fullPlan has.
func fewPlan() plan {
	return plan{
		services: 50, starts: 1, patience: time.Minute,
		changes: 3, pause: 10 * time.Millisecond, changeTime: time.Minute,
		rounds: 1, load: 200 * time.Millisecond,
		churn: 2 * time.Second, changing: 50, asking: 50,
		reference: true,
	}
}

func usherFlags() []string { return strings.Fields(os.Getenv(usherFlagsEnv)) }
