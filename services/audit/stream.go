package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Stream writes records as lines of JSON. It is safe for concurrent use.
type Stream struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

// NewStream returns a stream to w.
func NewStream(w io.Writer) *Stream { return &Stream{w: w} }

// line is a record on the stream: its place in the chain, and the record as hashed.
type line struct {
	Seq   int64           `json:"seq,omitempty"`
	Hash  string          `json:"hash,omitempty"`
	Audit json.RawMessage `json:"audit"`
}

// Emit writes a record that has been committed.
func (s *Stream) Emit(e Entry) error {
	return s.write(line{Seq: e.Seq, Hash: hex.EncodeToString(e.Hash[:]), Audit: e.JSON})
}

// Tell writes a record that stands in no chain: that of a process without a store.
func (s *Stream) Tell(r Record) error {
	text, err := json.Marshal(r.clean())
	if err != nil {
		return fmt.Errorf("encoding an audit record: %w", err)
	}
	return s.write(line{Audit: text})
}

func (s *Stream) write(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding an audit line: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.w.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("writing the audit stream: %w", err)
	}
	return nil
}
