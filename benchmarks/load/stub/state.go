package stub

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// chatWait bounds how long a client may wait to hear what became of a chat.
const chatWait = 2 * time.Second

type counts struct {
	Chats       int `json:"chats"`
	Running     int `json:"running"`
	Disconnects int `json:"disconnects"` // chats that ended because their client left
}

// state counts what happens and holds the idle answers.
type state struct {
	mutex    sync.Mutex
	counts   counts
	named    map[string]counts
	changed  chan struct{} // closed and replaced when a named chat begins or ends
	released chan struct{} // closed and replaced at each release
	slots    map[string]chan struct{}
}

// newState has so many slots a model, 0 for any number.
func newState(parallel int) *state {
	slots := map[string]chan struct{}{}
	if parallel > 0 {
		for _, model := range models {
			slots[model] = make(chan struct{}, parallel)
		}
	}
	return &state{
		named: map[string]counts{}, changed: make(chan struct{}), released: make(chan struct{}), slots: slots,
	}
}

// enter waits for a slot of a model; it tells whether there was one before the client was gone.
func (s *state) enter(model string, gone <-chan struct{}) (leave func(), entered bool) {
	slots := s.slots[model]
	if slots == nil {
		return func() {}, true
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, true
	case <-gone:
		return nil, false
	}
}

// message is one of a chat; what follows "#" in its content names the chat.
type message struct{ Content string }

func nameOf(messages []message) string {
	if len(messages) == 0 {
		return ""
	}
	_, name, _ := strings.Cut(messages[len(messages)-1].Content, "#")
	return name
}

// follow counts a chat as begun, and by what it returns as ended: well when its client has stayed until then.
func (s *state) follow(messages []message, stayed *bool) (end func()) {
	name := nameOf(messages)
	s.count(name, counts{Chats: 1, Running: 1})
	return func() {
		if *stayed {
			s.count(name, counts{Running: -1})
		} else {
			s.count(name, counts{Running: -1, Disconnects: 1})
		}
	}
}

func (s *state) count(name string, more counts) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counts = s.counts.plus(more)
	if name != "" {
		s.named[name] = s.named[name].plus(more)
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func (c counts) plus(more counts) counts {
	return counts{c.Chats + more.Chats, c.Running + more.Running, c.Disconnects + more.Disconnects}
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

// awaitBegin answers with the counts of the chats called ?name= once there is one, or 504 when none comes.
func (s *state) awaitBegin(w http.ResponseWriter, r *http.Request) {
	s.await(w, r, func(chat counts) bool { return chat.Chats > 0 })
}

// awaitEnd answers with the counts of the chats called ?name= once none runs any more, or 504 when one goes on.
func (s *state) awaitEnd(w http.ResponseWriter, r *http.Request) {
	s.await(w, r, func(chat counts) bool { return chat.Chats > 0 && chat.Running == 0 })
}

func (s *state) await(w http.ResponseWriter, r *http.Request, holds func(counts) bool) {
	name := r.URL.Query().Get("name")
	late := time.After(chatWait)
	for {
		s.mutex.Lock()
		chat, changed := s.named[name], s.changed
		s.mutex.Unlock()
		if holds(chat) {
			reply(w, chat)
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
