package stub

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"

	"modelset/benchmarks/load/answer"
)

var vectorJSON, vectorBase64 = encodedVector()

func encodedVector() (list, packed string) {
	vector := answer.Vector()
	text, err := json.Marshal(vector)
	if err != nil {
		panic(err)
	}
	var bytes []byte
	for _, value := range vector {
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(float32(value)))
	}
	return string(text), base64.StdEncoding.EncodeToString(bytes)
}

// embeddingRequest reads either API's request: the model, how many texts, and how to encode their vectors.
func embeddingRequest(r *http.Request) (model string, count int, encoding string, err error) {
	var request struct {
		Model          string
		Input          json.RawMessage
		EncodingFormat string `json:"encoding_format"`
	}
	if err = json.NewDecoder(r.Body).Decode(&request); err != nil {
		return "", 0, "", err
	}
	count = 1
	if len(request.Input) > 0 && request.Input[0] == '[' {
		var texts []json.RawMessage
		if err = json.Unmarshal(request.Input, &texts); err != nil {
			return "", 0, "", err
		}
		count = len(texts)
	}
	return request.Model, count, request.EncodingFormat, nil
}

func openaiEmbeddings(w http.ResponseWriter, r *http.Request) {
	model, count, encoding, err := embeddingRequest(r)
	if err != nil {
		openaiError(w, err)
		return
	}
	vector := json.RawMessage(vectorJSON)
	if encoding == "base64" {
		vector = json.RawMessage(`"` + vectorBase64 + `"`)
	}
	var data []map[string]any
	for i := range count {
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": vector})
	}
	usage := map[string]int{"prompt_tokens": 4 * count, "total_tokens": 4 * count}
	reply(w, map[string]any{"object": "list", "model": model, "data": data, "usage": usage})
}
