package bench

import (
	"maps"
	"math"
	"slices"
)

// median is that of the values of all rounds, of which there must be one.
func median(values map[int]float64) float64 {
	sorted := slices.Sorted(maps.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medianInterval holds the median of what the values are samples of with a probability of 95 %:
// from the k-th smallest to the k-th largest, as far apart as the binomial distribution asks
// for. Of fewer than six rounds it is all their range, which is not as sure.
func medianInterval(values map[int]float64) (low, high float64) {
	sorted := slices.Sorted(maps.Values(values))
	n := len(sorted)
	k, outside := 0, 0.0
	for p := math.Pow(0.5, float64(n)); k < (n-1)/2; k++ { // p is the probability that k of n are below
		if outside += 2 * p; outside > 0.05 {
			break
		}
		p *= float64(n-k) / float64(k+1)
	}
	k = max(k, 1)
	return sorted[k-1], sorted[n-k]
}

// A Ratio is how many times one value is another one, and the interval that holds it with a
// probability of 95 %. One round says nothing about the interval: it is zero.
type Ratio struct {
	Rounds int     `json:"rounds"` // that have both values
	Mean   float64 `json:"mean"`
	Low    float64 `json:"low,omitempty"`
	High   float64 `json:"high,omitempty"`
}

// ratioOf compares values by round: the geometric mean of the quotients, and Student's interval
// of their logarithms. What is not positive has no ratio.
func ratioOf(a, b map[int]float64) Ratio {
	var logs []float64
	for round := range a {
		if a[round] > 0 && b[round] > 0 {
			logs = append(logs, math.Log(a[round]/b[round]))
		}
	}
	r := Ratio{Rounds: len(logs)}
	if r.Rounds == 0 {
		return r
	}
	mean := average(logs)
	r.Mean = math.Exp(mean)
	if r.Rounds == 1 {
		return r
	}
	var squares float64
	for _, v := range logs {
		squares += (v - mean) * (v - mean)
	}
	n := float64(r.Rounds)
	margin := student95(r.Rounds-1) * math.Sqrt(squares/(n-1)/n)
	r.Low, r.High = math.Exp(mean-margin), math.Exp(mean+margin)
	return r
}

func average(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// student95 is Student's t for a two-sided interval of 95 % and so many degrees of freedom, from
// the usual table. Beyond its end it is too careful by less than 7 %.
func student95(freedom int) float64 {
	table := []float64{
		12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
		2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
	}
	return table[min(freedom, len(table))-1]
}
