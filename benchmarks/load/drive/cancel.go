package drive

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// givenUp is how many disconnects in a row may go unnoticed before the rest is not tried.
const givenUp = 3

type cancelResult struct {
	Cut       int    `json:"cut"`
	Unnoticed int    `json:"unnoticed"` // within two seconds
	Freed     spread `json:"freed_ms"`  // from the client's leaving to the stub's seeing it
}

// cancelled opens one stream after another, leaves it at its first token and waits until the stub notices.
func cancelled(ctx context.Context, set settings) (any, error) {
	timed, stop := context.WithTimeout(ctx, set.limit)
	defer stop()
	var result cancelResult
	var freed []time.Duration
	row := 0
	for result.Cut < set.count && row < givenUp && timed.Err() == nil {
		before, err := disconnects(timed, set.control)
		if err != nil {
			return nil, err
		}
		own, leave := context.WithCancel(timed)
		_, closeBody, err := set.target.firstToken(own, timed)
		if err != nil {
			leave()
			return nil, err
		}
		left := time.Now()
		leave()
		closeBody()
		seen, err := awaitDisconnect(timed, set.control, before)
		if err != nil {
			return nil, err
		}
		result.Cut++
		row++
		if seen {
			freed = append(freed, time.Since(left))
			row = 0
		} else {
			result.Unnoticed++
		}
	}
	result.Freed = spreadOf(freed)
	return result, nil
}

func disconnects(ctx context.Context, control string) (int, error) {
	var counts struct{ Disconnects int }
	response, err := get(ctx, control+"/stub/counts")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(&counts)
	return counts.Disconnects, err
}

func awaitDisconnect(ctx context.Context, control string, above int) (bool, error) {
	response, err := get(ctx, fmt.Sprintf("%s/stub/disconnects?above=%d", control, above))
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
