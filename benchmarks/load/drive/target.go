package drive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const prompt = "Say something."

// target is a contender: where it is, which API of its two is spoken, which model is asked.
type target struct {
	base   string
	ollama bool
	model  string
	client *http.Client
}

func newTarget(base, api, model string, connections int) target {
	transport := &http.Transport{
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		DisableCompression:  true,
	}
	return target{strings.TrimSuffix(base, "/"), api == "ollama", model, &http.Client{Transport: transport}}
}

func (t target) chat(ctx context.Context, prompt string, tokens int, stream bool) (*http.Response, error) {
	messages := []map[string]string{{"role": "user", "content": prompt}}
	if t.ollama {
		return t.post(ctx, "/api/chat", map[string]any{
			"model": t.model, "messages": messages, "stream": stream, "options": map[string]int{"num_predict": tokens},
		})
	}
	return t.post(ctx, "/v1/chat/completions", map[string]any{
		"model": t.model, "messages": messages, "stream": stream, "max_tokens": tokens,
	})
}

func (t target) embed(ctx context.Context) (*http.Response, error) {
	path := "/v1/embeddings"
	if t.ollama {
		path = "/api/embed"
	}
	return t.post(ctx, path, map[string]any{"model": t.model, "input": prompt})
}

// chatOnce asks for a whole answer and reads it.
func (t target) chatOnce(ctx context.Context, tokens int) error {
	return drain(t.chat(ctx, prompt, tokens, false))
}

// embedOnce asks for one embedding and reads it.
func (t target) embedOnce(ctx context.Context, _ int) error {
	return drain(t.embed(ctx))
}

func (t target) post(ctx context.Context, path string, body any) (*http.Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+path, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := t.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return nil, fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	return response, nil
}

func drain(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	read, err := io.Copy(io.Discard, response.Body)
	if err == nil && read == 0 {
		return errors.New("empty answer")
	}
	return err
}
