package mesh

import "time"

// Limits for tests.
const (
	MaxStreams = maxStreams
	MaxResets  = maxResets
	MinLeft    = minLeft
	Reserve    = reserve
	Grace      = grace
)

// Name rules for tests.
var (
	CheckName      = checkName
	ValidRequestID = validRequestID
)

// SetGrace shortens how long a stopping server waits.
func (s *Server) SetGrace(d time.Duration) { s.grace = d }

// Window counts events for tests.
type Window struct{ w window }

// Over is window.over.
func (w *Window) Over(now time.Time, limit int) bool { return w.w.over(now, limit) }
