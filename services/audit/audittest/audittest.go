// Package audittest turns the queue of an audit stream into what a test can look at.
//
// Tests of the services call it; no product code does.
package audittest

import (
	"context"

	"github.com/estuary-pki/estuary/services/audit"
)

// Flush writes the lines that wait in s, which must not be running.
func Flush(s *audit.Stream) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return s.Run(ended)
}
