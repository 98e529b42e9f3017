// Package answer is what the stub says, so that the driver can tell whether it arrived unchanged.
package answer

import (
	"math"
	"strconv"
	"strings"
)

// Dimensions is the length of an embedding, that of all-minilm.
const Dimensions = 384

// DefaultTokens is the length of an answer whose request sets no limit.
const DefaultTokens = 16

// AppendToken appends the i-th token of any answer. No two are equal: some proxies take repetition for a fault.
func AppendToken(to []byte, i int) []byte {
	to = append(to, 'w')
	to = strconv.AppendInt(to, int64(i), 10)
	return append(to, ' ')
}

// Text is the whole answer of n tokens.
func Text(n int) string {
	var text strings.Builder
	var token []byte
	for i := range n {
		token = AppendToken(token[:0], i)
		text.Write(token)
	}
	return text.String()
}

// Vector is the embedding of any text, of length 1.
func Vector() []float64 {
	vector := make([]float64, Dimensions)
	sum := 0.0
	for i := range vector {
		vector[i] = math.Sin(float64(i + 1))
		sum += vector[i] * vector[i]
	}
	for i := range vector {
		// As a float32 in the shortest spelling, which is what Ollama sends.
		short := strconv.FormatFloat(vector[i]/math.Sqrt(sum), 'g', -1, 32)
		vector[i], _ = strconv.ParseFloat(short, 64)
	}
	return vector
}
