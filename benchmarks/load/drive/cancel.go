package drive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// givenUp is how many disconnects in a row may go unnoticed before the rest is not tried.
const givenUp = 3

type cancelResult struct {
	Cut       int    `json:"cut"`
	Unnoticed int    `json:"unnoticed"` // for as long as the stub waits
	Freed     spread `json:"freed_ms"`  // from the client's leaving to the stub's seeing it
}

// cancelled has each client ask, leave, and wait until the stub has noticed that this very request was left. A
// stream is left at its first token, any other answer while the stub works on it. What is under way when the time
// is over is left out.
func cancelled(ctx context.Context, set settings) (any, error) {
	timed, stop := context.WithTimeout(ctx, set.limit)
	defer stop()
	var result cancelResult
	var freed []time.Duration
	var failure error
	var mutex sync.Mutex
	run, asked, row := time.Now().UnixNano(), 0, 0
	more := func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		asked++
		return asked <= set.count && row < givenUp && failure == nil && timed.Err() == nil
	}
	leaveOne := func(name string) {
		after, noticed, err := set.leaveOne(timed, name)
		mutex.Lock()
		defer mutex.Unlock()
		switch {
		case timed.Err() != nil:
		case err != nil:
			failure = err
		case noticed:
			result.Cut++
			row = 0
			freed = append(freed, after)
		default:
			result.Cut++
			row++
			result.Unnoticed++
		}
	}
	var group sync.WaitGroup
	for client := range set.clients {
		group.Go(func() {
			for i := 0; more(); i++ {
				leaveOne(fmt.Sprintf("%d-%d-%d", run, client, i))
			}
		})
	}
	group.Wait()
	if failure == nil && result.Cut == 0 {
		failure = errors.New("no request could be left in time")
	}
	result.Freed = spreadOf(freed)
	return result, failure
}

// leaveOne asks and leaves; it tells how long after that the stub noticed, or that it did not.
func (set settings) leaveOne(ctx context.Context, name string) (time.Duration, bool, error) {
	leave, err := set.ask(ctx, name)
	if err != nil {
		return 0, false, err
	}
	left := time.Now()
	leave()
	chat, err := set.await(ctx, "end", name)
	after := time.Since(left)
	if err == nil && chat.Chats > 0 && chat.Disconnects == 0 {
		// To be counted neither way: a contender that is slow to notice would seem never to do so.
		err = errors.New("an answer ended by itself before its client was missed: ask for more tokens")
	}
	return after, chat.Disconnects > 0, err
}

// ask sends a request of that name and returns when it is time to leave, with what leaves.
func (set settings) ask(ctx context.Context, name string) (leave func(), err error) {
	named := prompt + " #" + name
	if set.stream {
		_, leave, err = set.target.firstToken(ctx, ctx, named, set.tokens)
		return leave, err
	}
	own, cancel := context.WithCancel(ctx)
	answered := make(chan error, 1)
	go func() { answered <- drain(set.target.chat(own, named, set.tokens, false)) }()
	leave = func() {
		cancel()
		<-answered
	}
	chat, err := set.await(ctx, "begin", name)
	if err == nil && chat.Chats == 0 {
		err = errors.New("a request did not come to the stub")
	}
	if err != nil {
		leave()
	}
	return leave, err
}

// chatCounts is what the stub knows of the chats of one name; all zero when it waited in vain.
type chatCounts struct{ Chats, Running, Disconnects int }

// await asks the stub for the "begin" or the "end" of a chat.
func (set settings) await(ctx context.Context, what, name string) (chat chatCounts, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, set.control+"/stub/"+what+"?name="+name, nil)
	if err != nil {
		return chat, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return chat, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		err = json.NewDecoder(response.Body).Decode(&chat)
	}
	return chat, err
}
