package drive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// event is what one line of a stream means.
type event int

const (
	other event = iota
	token
	done
)

var (
	dataPrefix  = []byte("data:")
	errorStart  = []byte(`{"error"`)
	contentName = []byte(`"content":`)
	doneMark    = []byte("[DONE]")
	ollamaDone  = []byte(`"done":true`)
)

// next reads one line. Errors are io.ErrUnexpectedEOF for a stream that just stops, and what the stream says.
func (t target) next(lines *bufio.Reader) (event, error) {
	line, err := lines.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		return other, io.ErrUnexpectedEOF
	}
	if err != nil {
		return other, err
	}
	if !t.ollama {
		payload, isData := bytes.CutPrefix(line, dataPrefix)
		if !isData {
			return other, nil
		}
		line = bytes.TrimSpace(payload)
		if bytes.Equal(line, doneMark) {
			return done, nil
		}
	} else if bytes.Contains(line, ollamaDone) {
		return done, nil
	}
	if bytes.HasPrefix(line, errorStart) {
		return other, fmt.Errorf("in the stream: %.200s", line)
	}
	if hasContent(line) {
		return token, nil
	}
	return other, nil
}

// hasContent finds a "content" that is a string and not empty, without decoding the line.
func hasContent(line []byte) bool {
	at := bytes.Index(line, contentName)
	if at < 0 {
		return false
	}
	value := bytes.TrimLeft(line[at+len(contentName):], " ")
	return len(value) > 1 && value[0] == '"' && value[1] != '"'
}
