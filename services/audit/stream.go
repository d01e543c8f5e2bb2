package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The limits of a Stream.
const (
	// maxQueue is how many lines wait for the reader.
	maxQueue = 4096
	// tellTime is how long Tell waits for its line.
	tellTime = 5 * time.Second
	// lateTime is the age of the oldest line at which Check complains.
	lateTime = 5 * time.Second
	// drainTime is how long Run goes on writing after its context has ended.
	drainTime = 2 * time.Second
)

var errFull = errors.New("the audit stream is full: its reader does not read")

// Stream writes records as lines of JSON. Its lines wait in a queue for Run to write them:
// a reader that is slow, stuck or gone holds up nobody but Tell. It is safe for concurrent
// use.
type Stream struct {
	w    io.Writer
	wake chan struct{} // holds one: lines have come

	mu      sync.Mutex
	queue   []queued // guarded by mu; oldest first, a line leaves it when it has been written
	running bool     // guarded by mu; a goroutine writes
	lost    uint64   // guarded by mu; lines that were never written
	missing uint64   // guarded by mu; those of them since the last good write
}

// queued is a line that has not been written yet.
type queued struct {
	text []byte
	at   time.Time
	done chan error // holds one: how writing it ended
}

// NewStream returns a stream to w. It writes nothing before Run.
func NewStream(w io.Writer) *Stream { return &Stream{w: w, wake: make(chan struct{}, 1)} }

// Measure adds the count of lost lines to set.
func (s *Stream) Measure(set *metrics.Set) {
	set.NewGauge("estuary_audit_lost_total", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(s.lost)
	})
}

// line is a record on the stream: its place in the chain, and the record as hashed.
type line struct {
	Seq   int64           `json:"seq,omitempty"`
	Hash  string          `json:"hash,omitempty"`
	Audit json.RawMessage `json:"audit"`
}

// Emit hands over a record that has been committed, to be written soon. It waits for
// nothing: when 4096 lines wait already the record is lost to the stream, and the error says so.
func (s *Stream) Emit(e Entry) error {
	_, err := s.enqueue(e.format())
	return err
}

// Tell writes a record that stands in no chain: that of a process without a store. It
// returns when the line has been written. After 5 s it returns an error, although the line
// may still be written later.
func (s *Stream) Tell(r Record) error {
	text, err := json.Marshal(r.clean())
	if err != nil {
		return fmt.Errorf("encoding an audit record: %w", err)
	}
	done, err := s.enqueue(line{Audit: text})
	if err != nil {
		return err
	}
	timer := time.NewTimer(tellTime)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("the audit stream has not taken a line for %v", tellTime)
	}
}

// enqueue returns a channel that tells how writing the line ended.
func (s *Stream) enqueue(l any) (<-chan error, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encoding an audit line: %w", err)
	}
	q := queued{text: append(text, '\n'), at: time.Now(), done: make(chan error, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxQueue {
		s.lose()
		return nil, errFull
	}
	s.queue = append(s.queue, q)
	select {
	case s.wake <- struct{}{}:
	default: // it knows already
	}
	return q.done, nil
}

// lose counts a line that will not be written. The caller holds mu.
func (s *Stream) lose() {
	s.lost++
	s.missing++
}

// Run writes the lines until ctx ends, and then those that still wait, for at most 2 s: the
// error says how many stay behind. What cannot be written is lost, logged and counted, and
// ends nothing. There is one Run at a time.
func (s *Stream) Run(ctx context.Context) error {
	s.mu.Lock()
	already := s.running
	s.running = true
	s.mu.Unlock()
	if already {
		return errors.New("the audit stream is being written already")
	}
	ended := make(chan struct{})
	go func() { // ends soon after ctx; with the process when w never returns
		defer close(ended)
		s.write(ctx)
	}()
	<-ctx.Done()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("%d lines were not written: the reader of the audit stream does not read", len(s.queue))
	}
}

// write writes what comes until ctx ends, and what is there by then.
func (s *Stream) write(ctx context.Context) {
	for last := false; ; {
		for s.writeOldest(ctx) {
		}
		if last {
			break
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			last = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
}

// writeOldest writes one line and returns false when there is none.
func (s *Stream) writeOldest(ctx context.Context) bool {
	s.mu.Lock()
	if len(s.queue) == 0 {
		s.mu.Unlock()
		return false
	}
	q := s.queue[0]
	s.mu.Unlock()
	_, err := s.w.Write(q.text)
	if err != nil {
		err = fmt.Errorf("writing the audit stream: %w", err)
	}
	if s.leave(err) {
		slog.LogAttrs(ctx, slog.LevelError, "audit stream broken, lines are being lost", slog.Any("error", err))
	}
	q.done <- err
	return true
}

// leave takes the oldest line off the queue, and tells whether it is the first one lost.
func (s *Stream) leave(err error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue[0] = queued{} // the array behind the queue lives on
	s.queue = s.queue[1:]
	if err == nil {
		s.missing = 0
		return false
	}
	s.lose()
	return s.missing == 1
}

// Check says that the reader misses lines: since the last good write some were lost, or the
// oldest has waited for more than 5 s. It is a readiness check.
func (s *Stream) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.missing > 0:
		return fmt.Errorf("%d lines of the audit stream were lost since it was last written", s.missing)
	case len(s.queue) > 0 && time.Since(s.queue[0].at) > lateTime:
		return fmt.Errorf("%d lines of the audit stream wait, the oldest for more than %v: its reader does not read", len(s.queue), lateTime)
	}
	return nil
}
