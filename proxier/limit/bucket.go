package limit

import "time"

const (
	longestInterval = time.Hour
	largestBurst    = 1_000_000 // times longestInterval this is still a Duration
)

// bucket has the tokens of a Rate. It is full when it is made. Instead of the tokens
// it keeps the time when all of them will be back: whole nanoseconds do not get lost
// in roundings.
type bucket struct {
	interval time.Duration // from token to token; 0: there are any number
	burst    int
	full     time.Time
}

// set changes the rate. The tokens that are missing stay missing.
func (b *bucket) set(r Rate, now time.Time) {
	old := *b
	*b = bucket{}
	if !(r.PerSecond > 0) {
		return
	}
	b.interval = longestInterval
	if interval := float64(time.Second) / r.PerSecond; interval < float64(longestInterval) {
		b.interval = max(time.Duration(interval), 1)
	}
	b.burst = min(max(r.Burst, 1), largestBurst)
	b.miss(old.missing(now), now)
}

// missing is how many tokens have yet to come back.
func (b *bucket) missing(now time.Time) float64 {
	if missing := b.full.Sub(now); missing > 0 {
		return float64(missing) / float64(b.interval)
	}
	return 0
}

// miss has so many tokens missing, no more than there are.
func (b *bucket) miss(tokens float64, now time.Time) {
	if b.interval > 0 && tokens > 0 {
		b.full = now.Add(time.Duration(min(tokens, float64(b.burst)) * float64(b.interval)))
	}
}

// next is how long it takes until there is a token for one that has so many before
// it, 0 if it is there.
func (b *bucket) next(ahead int, now time.Time) time.Duration {
	missing := max(b.full.Sub(now), 0)
	return max(missing+time.Duration(ahead+1-b.burst)*b.interval, 0)
}

// take takes a token, which has to be there.
func (b *bucket) take(now time.Time) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.interval)
}
