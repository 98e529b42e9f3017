package drive

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

type closedResult struct {
	Clients  int     `json:"clients"`
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	Error    string  `json:"error,omitempty"`
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"requests_per_second"`
	Latency  spread  `json:"latency_ms"`
}

// closedLoop has each client send its next request when it has read the last answer.
func closedLoop(once func(target, context.Context, int) error) func(context.Context, settings) (any, error) {
	return func(ctx context.Context, set settings) (any, error) {
		if _, err := loop(ctx, set, once, set.warmup, set.limit); err != nil {
			return nil, err
		}
		count := set.count
		if count == 0 {
			count = -1
		}
		return loop(ctx, set, once, count, set.limit)
	}
}

// loop sends count requests, or any number when it is negative, until the time is over; those under way then
// are left out.
func loop(
	ctx context.Context, set settings, once func(target, context.Context, int) error, count int, limit time.Duration,
) (closedResult, error) {
	result := closedResult{Clients: set.clients}
	if count == 0 {
		return result, nil
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var sent atomic.Int64
	var group sync.WaitGroup
	var mutex sync.Mutex
	var latencies []time.Duration
	began := time.Now()
	for range set.clients {
		group.Go(func() {
			var own []time.Duration
			var failed int
			var last error
			for timed.Err() == nil && (count < 0 || sent.Add(1) <= int64(count)) {
				asked := time.Now()
				err := once(set.target, timed, set.tokens)
				switch {
				case err == nil:
					own = append(own, time.Since(asked))
				case timed.Err() == nil:
					failed++
					last = err
				}
			}
			mutex.Lock()
			defer mutex.Unlock()
			latencies = append(latencies, own...)
			result.Errors += failed
			if last != nil {
				result.Error = last.Error()
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return result, errors.New("interrupted")
	}
	result.Requests = len(latencies)
	result.Seconds = time.Since(began).Seconds()
	result.Rate = float64(result.Requests) / result.Seconds
	result.Latency = spreadOf(latencies)
	return result, nil
}
