package stub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"modelset/benchmarks/load/answer"
)

const when = "2026-01-01T00:00:00.000000000Z"

var models = []string{"fast", "paced", "idle", "embed"}

type ollamaChatRequest struct {
	Model    string
	Messages []message
	Stream   *bool
	Options  struct {
		NumPredict int `json:"num_predict"`
	}
}

func (s *state) ollamaChat(w http.ResponseWriter, r *http.Request) {
	var request ollamaChatRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		reply(w, map[string]string{"error": err.Error()})
		return
	}
	tokens := request.Options.NumPredict
	if tokens <= 0 {
		tokens = answer.DefaultTokens
	}
	stayed := false
	defer s.follow(request.Messages, &stayed)()

	head := fmt.Sprintf(`{"model":%q,"created_at":%q,"message":{"role":"assistant","content":"`, request.Model, when)
	end := fmt.Sprintf(`"},"done":true,"done_reason":"stop","total_duration":1000000,"load_duration":1000,`+
		`"prompt_eval_count":8,"prompt_eval_duration":1000,"eval_count":%d,"eval_duration":1000}`+"\n", tokens)
	if request.Stream != nil && !*request.Stream {
		if stayed = s.whole(r, base(request.Model), tokens); !stayed {
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = fmt.Fprint(w, head, answer.Text(tokens), end)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	var line []byte
	stayed = s.stream(w, r, base(request.Model), tokens, func(i int) []byte {
		line = append(line[:0], head...)
		line = answer.AppendToken(line, i)
		line = append(line, "\"},\"done\":false}\n"...)
		return line
	})
	if stayed {
		_, _ = fmt.Fprint(w, head, end)
	}
}

func ollamaEmbed(w http.ResponseWriter, r *http.Request) {
	model, count, _, err := embeddingRequest(r)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, map[string]string{"error": err.Error()})
		return
	}
	vectors := strings.TrimSuffix(strings.Repeat(vectorJSON+",", count), ",")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(w, `{"model":%q,"embeddings":[%s],"total_duration":1000000,"load_duration":1000,"prompt_eval_count":%d}`,
		model, vectors, 4*count)
}

func ollamaShow(w http.ResponseWriter, r *http.Request) {
	var request struct{ Model, Name string }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, map[string]string{"error": err.Error()})
		return
	}
	capability := "completion"
	if base(request.Model+request.Name) == "embed" {
		capability = "embedding"
	}
	reply(w, map[string]any{
		"capabilities": []string{capability},
		"details":      details(),
		"model_info":   map[string]any{"general.architecture": "llama", "llama.context_length": 32768},
		"template":     "{{ .Prompt }}",
		"modified_at":  when,
	})
}

func ollamaTags(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{"models": listed("modified_at", when)})
}

func ollamaProcesses(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{"models": listed("expires_at", "2126-01-01T00:00:00Z")})
}

func listed(timeName, time string) []map[string]any {
	var entries []map[string]any
	for i, name := range models {
		entries = append(entries, map[string]any{
			"name": name + ":latest", "model": name + ":latest", timeName: time, "size": 100_000_000,
			"size_vram": 0, "digest": strings.Repeat(fmt.Sprint(i+1), 64), "details": details(),
		})
	}
	return entries
}

func details() map[string]any {
	return map[string]any{
		"format": "gguf", "family": "llama", "families": []string{"llama"},
		"parameter_size": "135M", "quantization_level": "F16",
	}
}
