package drive

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"modelset/benchmarks/load/answer"
)

// nearly is how far a number of an embedding may be off: a float32's rounding.
const nearly = 1e-6

// verify asks for an answer in one piece, for one as a stream and, of the model "embed", for an embedding, decodes
// what comes, and fails unless it is what the stub says.
func verify(ctx context.Context, set settings) (any, error) {
	timed, stop := context.WithTimeout(ctx, set.limit)
	defer stop()
	whole, err := set.target.wholeText(timed, set.tokens)
	if err != nil {
		return nil, fmt.Errorf("unary: %w", err)
	}
	streamed, err := set.target.streamedText(timed, set.tokens)
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	wanted := answer.Text(set.tokens)
	for name, got := range map[string]string{"unary": whole, "stream": streamed} {
		// Some contenders strip the answer.
		if got != wanted && got+" " != wanted {
			return nil, fmt.Errorf("%s: %q instead of %q", name, got, wanted)
		}
	}
	if err := set.target.checkEmbedding(timed); err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	return map[string]bool{"verified": true}, nil
}

// message is a chat's answer, whole or a piece, of either API.
type message struct {
	Message struct{ Content string }
	Choices []struct {
		Message struct{ Content string }
		Delta   struct{ Content string }
	}
}

func (m message) text() string {
	text := m.Message.Content
	for _, choice := range m.Choices {
		text += choice.Message.Content + choice.Delta.Content
	}
	return text
}

func (t target) wholeText(ctx context.Context, tokens int) (string, error) {
	response, err := t.chat(ctx, prompt, tokens, false)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var decoded message
	err = json.NewDecoder(response.Body).Decode(&decoded)
	return decoded.text(), err
}

func (t target) streamedText(ctx context.Context, tokens int) (string, error) {
	response, err := t.chat(ctx, prompt, tokens, true)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	text := ""
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		line := lines.Bytes()
		if !t.ollama {
			payload, isData := bytes.CutPrefix(line, dataPrefix)
			if line = bytes.TrimSpace(payload); !isData || bytes.Equal(line, doneMark) {
				continue
			}
		}
		var decoded message
		if err := json.Unmarshal(line, &decoded); err != nil {
			return "", err
		}
		text += decoded.text()
	}
	return text, lines.Err()
}

func (t target) checkEmbedding(ctx context.Context) error {
	t.model = "embed"
	response, err := t.embed(ctx)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var decoded struct {
		Embeddings [][]float64
		Data       []struct{ Embedding []float64 }
	}
	if err := json.NewDecoder(response.Body).Decode(&decoded); err != nil {
		return err
	}
	for _, entry := range decoded.Data {
		decoded.Embeddings = append(decoded.Embeddings, entry.Embedding)
	}
	if len(decoded.Embeddings) != 1 || len(decoded.Embeddings[0]) != answer.Dimensions {
		return errors.New("not one vector of the right length")
	}
	for i, wanted := range answer.Vector() {
		if math.Abs(decoded.Embeddings[0][i]-wanted) > nearly {
			return fmt.Errorf("number %d is %g instead of %g", i, decoded.Embeddings[0][i], wanted)
		}
	}
	return nil
}
