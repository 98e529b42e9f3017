package drive

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// openers is how many idle streams are being opened at once.
const openers = 32

type holdResult struct {
	Streams int     `json:"streams"`
	Held    int     `json:"held"`    // had their first token and stayed open
	Ended   int     `json:"ended"`   // to the end, after they were released
	Seconds float64 `json:"seconds"` // until all were held
	Error   string  `json:"error,omitempty"`
}

// hold opens -clients streams of two tokens that stop after the first. It prints one line when they are all
// open or the limit is over, waits until standard input ends, has the stub go on, and prints a second line.
func hold(ctx context.Context, set settings) (any, error) {
	opening, stopOpening := context.WithTimeout(ctx, set.limit)
	defer stopOpening()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	// A stream outlives the opening, but one whose first token is late is given up.
	result := holdResult{Streams: set.clients}
	var mutex sync.Mutex
	var opened, ended sync.WaitGroup
	slots := make(chan struct{}, openers)
	began := time.Now()
	for range set.clients {
		select {
		case slots <- struct{}{}:
		case <-opening.Done():
		}
		if opening.Err() != nil {
			break
		}
		opened.Add(1)
		ended.Go(func() {
			lines, closeBody, err := set.target.firstToken(reading, opening, prompt, 2)
			mutex.Lock()
			if err == nil {
				result.Held++
			} else {
				result.Error = err.Error()
			}
			mutex.Unlock()
			<-slots
			opened.Done()
			if err != nil {
				return
			}
			defer closeBody()
			for kind := other; kind != done; {
				if kind, err = set.target.next(lines); err != nil {
					mutex.Lock()
					result.Error = err.Error()
					mutex.Unlock()
					return
				}
			}
			mutex.Lock()
			result.Ended++
			mutex.Unlock()
		})
	}
	opened.Wait()
	result.Seconds = time.Since(began).Seconds()
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return nil, err
	}
	response, err := http.Post(set.control+"/stub/release", "", nil)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	give := time.AfterFunc(set.limit, stopReading)
	defer give.Stop()
	ended.Wait()
	return result, nil
}

// firstToken opens a stream and reads to its first token, for as long as opening allows.
func (t target) firstToken(
	ctx, opening context.Context, prompt string, tokens int,
) (*bufio.Reader, func(), error) {
	own, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(opening, cancel)
	response, err := t.chat(own, prompt, tokens, true)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	closeBody := func() {
		cancel()
		response.Body.Close()
	}
	lines := bufio.NewReaderSize(response.Body, 4*1024)
	for {
		kind, err := t.next(lines)
		if err == nil && kind == done {
			err = fmt.Errorf("the stream ended at once")
		}
		if err != nil {
			closeBody()
			return nil, nil, err
		}
		if kind == token {
			stop()
			return lines, closeBody, nil
		}
	}
}
