package bench

import (
	"flag"
	"time"
)

// What can be set on the command line.
var (
	rounds      = flag.Int("rounds", 5, "how often each path is measured")
	duration    = flag.Duration("duration", 5*time.Second, "how long each load lasts")
	warmUp      = flag.Duration("warm-up", time.Second, "how long each load lasts before it counts")
	pacedFor    = flag.Duration("paced-duration", 2*time.Second, "how long the load with a fixed rate lasts")
	pace        = flag.Int("pace", 10000, "fixed rate at which latency is measured, in queries a second")
	manyClients = flag.Int("clients", 2000, "clients of the load with many of them")
	sessions    = flag.Int("sessions", 10000, "live sessions of the measurement of memory")
	usherFlags  = flag.String("usher-flags", "--udp-max-sessions=12000 --udp-max-sessions-per-service=12000", "flags for usher")
	quiet       = flag.Float64("quiet", 5, "measure a load again if other programs took more percent of the processors")
	tries       = flag.Int("tries", 3, "how often at most")
	results     = flag.String("results", "results", "folder for the results, empty for none")
)
