package enroll

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

const (
	// attempts is how often the signer is asked at most.
	attempts = 3
	// minLeft is what the context must leave for another attempt.
	minLeft = time.Second
	// minPause and maxPause bound the time between two attempts.
	minPause = 50 * time.Millisecond
	maxPause = 150 * time.Millisecond
)

// issue asks the signer, and asks again while it is unavailable: it may have died with the
// certificate made and the answer unsent. That is safe because the signer knows the assertion
// and the request again and returns the certificate that it stored. It is needed because the
// client cannot do the same: the validator may have used its one-time password up, which is
// also why only the signer is asked twice. A signer that is busy, or says when to come again,
// is left alone.
func (e *Enroller) issue(ctx context.Context, r *signerv1.IssueRequest) (*signerv1.IssueResponse, error) {
	for attempt := 1; ; attempt++ {
		issued, err := e.signer.Issue(ctx, r)
		if err == nil {
			return issued, nil
		}
		if fault.KindOf(err) != fault.Unavailable || fault.RetryAfter(err) > 0 || attempt == attempts || !wait(ctx) {
			return nil, fmt.Errorf("issuing, attempt %d: %w", attempt, err)
		}
	}
}

// wait pauses and tells whether there is time for another attempt.
func wait(ctx context.Context) bool {
	d := pause()
	if end, ok := ctx.Deadline(); ok && time.Until(end)-d < minLeft {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pause returns a random time, so that the requests that one dead signer failed do not all
// come back at once.
func pause() time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return minPause + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(maxPause-minPause+1))
}
