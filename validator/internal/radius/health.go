package radius

import (
	"sync"
	"time"
)

const (
	// lostBefore is how many requests in a row go without an answer before a server is down,
	// if nobody else has had one meanwhile: with four sends one in fifteen is lost at 30 % loss
	// each way, and one in two hundred twice in a row.
	lostBefore = 2
	// deadTime is how long a server that is down is not asked, unless it answers a probe.
	deadTime = 10 * time.Second
	// probeEvery is how often it is probed.
	probeEvery = time.Second
	// junkEvery is how often the log is told of junk.
	junkEvery = time.Minute
)

// health is how a server is. Its zero value is well.
type health struct {
	mu     sync.Mutex
	lost   int       // guarded by mu; in a row
	heard  time.Time // guarded by mu; when an answer came last
	down   bool      // guarded by mu
	tried  time.Time // guarded by mu; when a request was lost, or let through, last
	probed time.Time // guarded by mu
	junk   time.Time // guarded by mu; when the log was told
}

func (h *health) isDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

// alive tells whether the server has come back by this answer.
func (h *health) alive(now time.Time) (back bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	back = h.down
	h.lost, h.down, h.heard = 0, false, now
	return back
}

// silent tells whether the server is down from now on, by a request that was sent at the
// time started and had no answer.
func (h *health) silent(started, now time.Time) (gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heard.After(started) {
		return false
	}
	h.lost++
	h.tried = now
	gone = !h.down && h.lost >= lostBefore
	h.down = h.down || gone
	return gone
}

// mayTry lets one request through to a server that has been down for the dead time.
func (h *health) mayTry(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.tried) < deadTime {
		return false
	}
	h.tried = now
	return true
}

func (h *health) mayProbe(now time.Time) bool { return h.due(&h.probed, now, probeEvery) }

func (h *health) tellJunk(now time.Time) bool { return h.due(&h.junk, now, junkEvery) }

func (h *health) due(last *time.Time, now time.Time, every time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(*last) < every {
		return false
	}
	*last = now
	return true
}
