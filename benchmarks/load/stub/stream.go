package stub

import (
	"net/http"
	"time"
)

// tokenInterval is the pace of the model "paced": 50 tokens a second.
const tokenInterval = 20 * time.Millisecond

// stream calls emit for each token and flushes, at the model's pace; it tells whether the client stayed.
// The paced model's first token comes after one interval, its n-th after n: a late one does not delay the rest.
func (s *state) stream(w http.ResponseWriter, r *http.Request, model string, tokens int, emit func(i int) error) bool {
	gone := r.Context().Done()
	flush := http.NewResponseController(w)
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
		if emit(i) != nil || flush.Flush() != nil {
			return false
		}
	}
	return true
}
