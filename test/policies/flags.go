package policies

import (
	"flag"
	"time"
)

// What can be set on the command line.
var (
	runFor  = flag.Duration("for", 8*time.Second, "how long each policy is shown; the silent endpoint for half of it")
	clients = flag.Int("clients", 16, "clients that ask at a time")
	answer  = flag.Duration("answer", 2*time.Millisecond, "how long a good endpoint takes to answer, 50 % more or less")
	perSec  = flag.Int("rate", 200, "new clients a second at the silent endpoint")
	results = flag.String("results", "../bench/results", "folder for the CSV files, empty for none")
)
