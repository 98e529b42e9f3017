package stub

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// disconnectWait bounds how long a client may wait to hear of a disconnect.
const disconnectWait = 2 * time.Second

type counts struct {
	Chats       int `json:"chats"`
	Running     int `json:"running"`
	Disconnects int `json:"disconnects"`
}

// state counts what happens and holds the idle streams.
type state struct {
	mutex    sync.Mutex
	counts   counts
	changed  chan struct{} // closed and replaced at each disconnect
	released chan struct{} // closed and replaced at each release
}

func newState() *state {
	return &state{changed: make(chan struct{}), released: make(chan struct{})}
}

func (s *state) begin() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counts.Chats++
	s.counts.Running++
}

func (s *state) end(disconnected bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counts.Running--
	if disconnected {
		s.counts.Disconnects++
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func (s *state) idle() <-chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.released
}

func (s *state) release(w http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	close(s.released)
	s.released = make(chan struct{})
	s.mutex.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *state) showCounts(w http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	now := s.counts
	s.mutex.Unlock()
	reply(w, now)
}

// awaitDisconnect answers when more than ?above= streams were cut by their clients: 200, or 504 if none was.
func (s *state) awaitDisconnect(w http.ResponseWriter, r *http.Request) {
	above, err := strconv.Atoi(r.URL.Query().Get("above"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	late := time.After(disconnectWait)
	for {
		s.mutex.Lock()
		seen, changed := s.counts.Disconnects, s.changed
		s.mutex.Unlock()
		if seen > above {
			w.WriteHeader(http.StatusOK)
			return
		}
		select {
		case <-changed:
		case <-late:
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		case <-r.Context().Done():
			return
		}
	}
}
