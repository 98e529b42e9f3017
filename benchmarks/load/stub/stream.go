package stub

import (
	"net/http"
	"time"
)

// tokenInterval is the pace of the model "paced": 50 tokens a second.
const tokenInterval = 20 * time.Millisecond

// stream hands the tokens that line makes to the client, each at its time; it tells whether the client stayed.
func (s *state) stream(w http.ResponseWriter, r *http.Request, model string, tokens int, line func(i int) []byte) bool {
	flush := http.NewResponseController(w)
	return s.generate(r, model, tokens, func(i int) bool {
		_, err := w.Write(line(i))
		return err == nil && flush.Flush() == nil
	})
}

// whole takes the time of an answer that comes in one piece; it tells whether the client stayed.
func (s *state) whole(r *http.Request, model string, tokens int) bool {
	return s.generate(r, model, tokens, func(int) bool { return true })
}

// generate calls emit for each token, at the model's pace, until the client is gone.
// The paced model's first token comes after one interval, its n-th after n: a late one does not delay the rest.
func (s *state) generate(r *http.Request, model string, tokens int, emit func(i int) bool) bool {
	gone := r.Context().Done()
	leave, entered := s.enter(model, gone)
	if !entered {
		return false
	}
	defer leave()
	released := s.idle()
	began := time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for i := range tokens {
		switch {
		case model == "paced":
			timer.Reset(time.Until(began.Add(time.Duration(i+1) * tokenInterval)))
			select {
			case <-timer.C:
			case <-gone:
				return false
			}
		case model == "idle" && i == 1:
			select {
			case <-released:
			case <-gone:
				return false
			}
		}
		if !emit(i) {
			return false
		}
	}
	return true
}
