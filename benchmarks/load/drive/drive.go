// Package drive sends what clients send, bounded in count and time, and prints what it saw as one JSON object.
package drive

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"modelset/benchmarks/load/loopback"
)

// Bounds that no flag may exceed.
const (
	maxStreams = 2000
	maxTokens  = 20_000
	maxSeconds = 120
)

// settings are the flags of all kinds of load.
type settings struct {
	target  target
	control string        // the stub's own URL, for what only it can tell
	clients int           // at once
	count   int           // requests or streams in all, 0 for as many as fit the time
	tokens  int           // in each answer
	warmup  int           // requests before those that count
	stream  bool          // whether answers are asked for as streams
	limit   time.Duration // of the whole measurement
	spread  time.Duration // over which streams begin
}

var kinds = map[string]func(context.Context, settings) (any, error){
	"unary":   closedLoop(target.chatOnce),
	"embed":   closedLoop(target.embedOnce),
	"streams": streams,
	"hold":    hold,
	"cancel":  cancelled,
	"verify":  verify,
}

// Main runs one kind of load.
func Main(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("name a kind of load: unary, embed, streams, hold, cancel or verify")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	result, err := Run(ctx, arguments[0], arguments[1:])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// Run runs one kind of load, with the flags of the command line, and returns what it saw.
func Run(ctx context.Context, kind string, flags []string) (any, error) {
	if kinds[kind] == nil {
		return nil, fmt.Errorf("no such kind of load: %q", kind)
	}
	set, err := parse(kind, flags)
	if err != nil {
		return nil, err
	}
	return kinds[kind](ctx, set)
}

// Failures counts what went wrong in a result.
func Failures(result any) int {
	switch result := result.(type) {
	case closedResult:
		return result.Errors
	case streamsResult:
		return result.Errors + result.Unfinished
	case cancelResult:
		return result.Unnoticed
	}
	return 0
}

func parse(kind string, arguments []string) (settings, error) {
	var set settings
	flags := flag.NewFlagSet(kind, flag.ExitOnError)
	url := flags.String("url", "", "loopback base URL, without /v1")
	api := flags.String("api", "openai", "openai or ollama")
	model := flags.String("model", "fast", "model to ask")
	flags.StringVar(&set.control, "control", "", "loopback URL of the stub itself (hold, cancel)")
	flags.IntVar(&set.clients, "clients", 1, "requests or streams at once")
	flags.IntVar(&set.count, "count", 0, "requests in all, 0 for as many as fit the time")
	flags.IntVar(&set.tokens, "tokens", 16, "tokens of each answer")
	flags.BoolVar(&set.stream, "stream", true, "leave streams at their first token, or answers awaited (cancel)")
	flags.IntVar(&set.warmup, "warmup", 0, "requests before those that count")
	flags.DurationVar(&set.limit, "limit", 5*time.Second, "longest time that requests are sent or read")
	flags.DurationVar(&set.spread, "spread", 0, "streams begin evenly over this time (streams)")
	if err := flags.Parse(arguments); err != nil {
		return set, err
	}
	if set.clients < 1 || set.clients > maxStreams || set.tokens < 1 || set.tokens > maxTokens ||
		set.limit <= 0 || set.limit > maxSeconds*time.Second {
		return set, fmt.Errorf("at most %d clients, %d tokens and %d s", maxStreams, maxTokens, maxSeconds)
	}
	for _, address := range []string{*url, set.control} {
		if err := loopback.URL(address); err != nil && (address != "" || *url == "") {
			return set, err
		}
	}
	set.target = newTarget(*url, *api, *model, set.clients)
	return set, nil
}
