package bench

import (
	"flag"
	"time"
)

// What can be set on the command line.
var (
	rounds      = flag.Int("rounds", 10, "how often each path is measured")
	duration    = flag.Duration("duration", 2*time.Second, "how long each load lasts")
	warmUp      = flag.Duration("warm-up", time.Second, "how long each load lasts before it counts")
	pacedFor    = flag.Duration("paced-duration", 2*time.Second, "how long the load with a fixed rate lasts")
	pace        = flag.Int("pace", 10000, "fixed rate at which latency is measured, in queries a second")
	manyClients = flag.Int("clients", 2000, "clients of the load with many of them")
	sessions    = flag.Int("sessions", 10000, "live sessions of the measurement of memory")
	idle        = flag.Int("idle", 8000, "idle connections of the measurement of memory")
	idleRounds  = flag.Int("idle-rounds", 3, "how often that is measured, at most: memory hardly varies")
	besides     = flag.Int("beside", 5000, "idle connections beside the load")
	services    = flag.Int("services", 10000, "Services that usher serves beside the one that is measured")
	usherFlags  = flag.String("usher-flags", "", "further flags for usher")
	quiet       = flag.Float64("quiet", 5, "measure a load again if other programs took more percent of the processors")
	tries       = flag.Int("tries", 3, "how often at most")
	results     = flag.String("results", "results", "folder for the results, empty for none")
)
