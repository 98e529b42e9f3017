// Package stub is a fast stand-in for Ollama: its native API and its /v1, with canned answers.
//
// What a model is called decides how it answers: "fast" without pauses, "paced" 50 tokens a second, "idle" one
// token and then nothing until released, "embed" with a vector. A chat whose prompt names it can be watched.
package stub

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strings"

	"modelset/benchmarks/load/loopback"
)

// Main listens, prints {"address": "127.0.0.1:port"} and serves until the process is ended.
func Main(arguments []string) error {
	flags := flag.NewFlagSet("stub", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "loopback address and port, 0 for any")
	parallel := flags.Int("parallel", 0, "answers of a model at once, the others wait; 0 for any number")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	listener, err := loopback.Listen(*listen)
	if err != nil {
		return err
	}
	return http.Serve(listener, Handler(*parallel))
}

// Handler is a new stub with so many slots a model, 0 for any number.
func Handler(parallel int) http.Handler {
	state := newState(parallel)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/chat", state.ollamaChat)
	mux.HandleFunc("POST /api/embed", ollamaEmbed)
	mux.HandleFunc("POST /api/show", ollamaShow)
	mux.HandleFunc("GET /api/tags", ollamaTags)
	mux.HandleFunc("GET /api/ps", ollamaProcesses)
	mux.HandleFunc("GET /api/version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]string{"version": "0.17.4"})
	})
	mux.HandleFunc("POST /v1/chat/completions", state.openaiChat)
	mux.HandleFunc("POST /v1/embeddings", openaiEmbeddings)
	mux.HandleFunc("GET /v1/models", openaiModels)
	mux.HandleFunc("GET /stub/counts", state.showCounts)
	mux.HandleFunc("GET /stub/begin", state.awaitBegin)
	mux.HandleFunc("GET /stub/end", state.awaitEnd)
	mux.HandleFunc("POST /stub/release", state.release)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "Ollama is running")
	})
	return mux
}

func reply(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// base strips the tag: "fast:latest" is "fast".
func base(model string) string {
	name, _, _ := strings.Cut(model, ":")
	return name
}
