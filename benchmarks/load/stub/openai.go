package stub

import (
	"encoding/json"
	"fmt"
	"net/http"

	"modelset/benchmarks/load/answer"
)

type openaiChatRequest struct {
	Model               string
	Messages            []message
	Stream              bool
	MaxTokens           int `json:"max_tokens"`
	MaxCompletionTokens int `json:"max_completion_tokens"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

func (s *state) openaiChat(w http.ResponseWriter, r *http.Request) {
	var request openaiChatRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		openaiError(w, err)
		return
	}
	tokens := max(request.MaxTokens, request.MaxCompletionTokens)
	if tokens <= 0 {
		tokens = answer.DefaultTokens
	}
	stayed := false
	defer s.follow(request.Messages, &stayed)()

	usage := fmt.Sprintf(`{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d}`, tokens, tokens+8)
	if !request.Stream {
		if stayed = s.whole(r, base(request.Model), tokens); !stayed {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":%q,`+
			`"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":%s}`,
			request.Model, answer.Text(tokens), usage)
		return
	}
	frame := fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":%q,"choices":[`,
		request.Model)
	w.Header().Set("Content-Type", "text/event-stream")
	var event []byte
	stayed = s.stream(w, r, base(request.Model), tokens, func(i int) []byte {
		event = append(event[:0], frame...)
		event = append(event, `{"index":0,"delta":{"role":"assistant","content":"`...)
		event = answer.AppendToken(event, i)
		event = append(event, "\"},\"finish_reason\":null}]}\n\n"...)
		return event
	})
	if !stayed {
		return
	}
	_, _ = fmt.Fprint(w, frame, `{"index":0,"delta":{},"finish_reason":"stop"}]}`, "\n\n")
	if request.StreamOptions.IncludeUsage {
		_, _ = fmt.Fprint(w, frame, `],"usage":`, usage, "}\n\n")
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

func openaiModels(w http.ResponseWriter, _ *http.Request) {
	var data []map[string]any
	for _, name := range models {
		data = append(data, map[string]any{"id": name, "object": "model", "created": 1767225600, "owned_by": "library"})
	}
	reply(w, map[string]any{"object": "list", "data": data})
}

func openaiError(w http.ResponseWriter, err error) {
	w.WriteHeader(http.StatusBadRequest)
	reply(w, map[string]any{"error": map[string]any{"message": err.Error(), "type": "invalid_request_error"}})
}
