package drive

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"
)

type streamsResult struct {
	Streams    int     `json:"streams"`
	Finished   int     `json:"finished"`
	Unfinished int     `json:"unfinished"` // when the time was over
	Errors     int     `json:"errors"`
	Error      string  `json:"error,omitempty"`
	Tokens     int     `json:"tokens"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"tokens_per_second"`
	First      spread  `json:"first_token_ms"`
	Gap        spread  `json:"gap_ms"`
}

// stream is one answer as it arrived: when it was asked for, when each token came, and how it ended.
type stream struct {
	asked    time.Time
	arrivals []time.Time
	finished bool
	err      error
}

// streams opens -clients streams, begun evenly over -spread, and reads all to their end or to the limit.
func streams(ctx context.Context, set settings) (any, error) {
	timed, cancel := context.WithTimeout(ctx, set.limit)
	defer cancel()
	all := make([]stream, set.clients)
	var group sync.WaitGroup
	began := time.Now()
	for i := range all {
		group.Go(func() {
			begin := time.NewTimer(time.Until(began.Add(set.spread * time.Duration(i) / time.Duration(len(all)))))
			defer begin.Stop()
			select {
			case <-begin.C:
				all[i] = set.target.read(timed, set.tokens)
			case <-timed.Done():
			}
		})
	}
	group.Wait()
	return summary(all, began), nil
}

// read follows one stream; without an error and not finished it was cut by the limit.
func (t target) read(ctx context.Context, tokens int) stream {
	result := stream{asked: time.Now(), arrivals: make([]time.Time, 0, tokens)}
	fail := func(err error) stream {
		if ctx.Err() == nil {
			result.err = err
		}
		return result
	}
	response, err := t.chat(ctx, prompt, tokens, true)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReaderSize(response.Body, 16*1024)
	for {
		kind, err := t.next(lines)
		switch {
		case err != nil:
			return fail(err)
		case kind == token:
			result.arrivals = append(result.arrivals, time.Now())
		case kind == done && len(result.arrivals) != tokens:
			return fail(fmt.Errorf("%d tokens instead of %d", len(result.arrivals), tokens))
		case kind == done:
			result.finished = true
			return result
		}
	}
}

func summary(all []stream, began time.Time) streamsResult {
	result := streamsResult{Streams: len(all)}
	var firsts, gaps []time.Duration
	last := began
	for _, one := range all {
		switch {
		case one.err != nil:
			result.Errors++
			result.Error = one.err.Error()
		case one.finished:
			result.Finished++
		default:
			result.Unfinished++
		}
		result.Tokens += len(one.arrivals)
		for i, arrival := range one.arrivals {
			if i == 0 {
				firsts = append(firsts, arrival.Sub(one.asked))
			} else {
				gaps = append(gaps, arrival.Sub(one.arrivals[i-1]))
			}
			if arrival.After(last) {
				last = arrival
			}
		}
	}
	result.Seconds = last.Sub(began).Seconds()
	if result.Seconds > 0 {
		result.Rate = float64(result.Tokens) / result.Seconds
	}
	result.First, result.Gap = spreadOf(firsts), spreadOf(gaps)
	return result
}
