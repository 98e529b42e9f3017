package drive

import (
	"slices"
	"time"
)

// spread describes durations in milliseconds; all zero when there were none.
type spread struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func spreadOf(durations []time.Duration) spread {
	if len(durations) == 0 {
		return spread{}
	}
	slices.Sort(durations)
	at := func(part float64) float64 {
		return float64(durations[int(part*float64(len(durations)-1))].Microseconds()) / 1000
	}
	return spread{Count: len(durations), P50: at(0.5), P99: at(0.99), Max: at(1)}
}
