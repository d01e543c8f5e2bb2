// Package issue turns an assertion and a certificate request into a certificate.
//
// serve calls it. It believes the assertion's signature and nobody's word, lets profile
// compute what the certificate says, lets lint judge it under a throw-away key, has ledger
// record it, and only then uses the authority's key. Prepare is the only way to a Prepared
// and Issue takes nothing else, so nothing is signed that was not linted.
package issue

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/failpoint"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
	"github.com/estuary-pki/estuary/signer/internal/lint"
	"github.com/estuary-pki/estuary/signer/internal/profile"
)

// perCore is how many certificates a core works on at once. Most of that time is the
// ledger's, which groups the commits of those that wait together.
const perCore = 16

// finishTime bounds how long a refusal or the end of an intent may take to be recorded when
// the caller has gone: less than a lease, after which the intent would be somebody else's.
const finishTime = ledger.Lease / 2

// Config is what an Issuer needs.
type Config struct {
	// Authority signs.
	Authority *ca.Authority
	// Profiles says what certificates contain.
	Profiles *profile.Set
	// Opener knows the validators' keys.
	Opener *assertion.Opener
	// Ledger records.
	Ledger *ledger.Ledger
	// Log gets what is not for the client.
	Log *slog.Logger
	// Metrics gets the estuary_signer_… metrics.
	Metrics *metrics.Set
	// Concurrency is how many certificates are in the making at once; 0 takes 16 a core.
	Concurrency int
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// Issuer issues certificates of one authority. It is safe for concurrent use.
type Issuer struct {
	authority *ca.Authority
	profiles  *profile.Set
	opener    *assertion.Opener
	ledger    *ledger.Ledger
	log       *slog.Logger
	now       func() time.Time
	linter    *lint.Linter
	// slots holds one token for each certificate in the making.
	slots chan struct{}

	exhausted, recovered, abandoned *metrics.Counter
}

// New returns an Issuer.
func New(c Config) (*Issuer, error) {
	if c.Authority == nil || c.Profiles == nil || c.Opener == nil || c.Ledger == nil || c.Log == nil || c.Metrics == nil {
		return nil, errors.New("an issuer needs an authority, profiles, an assertion opener, a ledger, a log and metrics")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Concurrency == 0 {
		c.Concurrency = perCore * runtime.GOMAXPROCS(0)
	}
	linter, err := lint.New()
	if err != nil {
		return nil, err
	}
	return &Issuer{
		authority: c.Authority, profiles: c.Profiles, opener: c.Opener, ledger: c.Ledger, log: c.Log, now: c.Now,
		linter: linter, slots: make(chan struct{}, c.Concurrency),
		exhausted: c.Metrics.GetOrCreateCounter("estuary_signer_budget_refusals_total"),
		recovered: c.Metrics.GetOrCreateCounter("estuary_signer_recovered_total"),
		abandoned: c.Metrics.GetOrCreateCounter("estuary_signer_abandoned_total"),
	}, nil
}

// Certificate is what was issued.
type Certificate struct {
	// DER is the certificate (RFC 5280 section 4.1).
	DER []byte
	// Repeated is true when it had been issued before to the same request.
	Repeated bool
}

// Issue records p, has the authority's key sign it and returns the certificate; to a repeat
// it returns the certificate of the first time, and nothing is signed.
//
// Errors: Unauthenticated (credential used up), Busy (too many at once, or a budget is used
// up), Unavailable (it could not be recorded, or the key could not be used: nothing was
// issued; or, with RetryAfter, the same request is being signed), Internal (assertion used
// before, and what should not be).
func (i *Issuer) Issue(ctx context.Context, p Prepared) (Certificate, error) {
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-ctx.Done():
		return Certificate{}, &fault.Error{Kind: fault.Busy, Op: "issue.Issue", RetryAfter: time.Second, Err: ctx.Err()}
	}
	// From here on an intent may exist, and whether the caller still waits does not matter:
	// it will ask again. The time begins before Begin, so that it ends before the lease.
	working, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledger.Lease)
	defer cancel()
	begun, err := i.ledger.Begin(ctx, p.intent)
	switch {
	case err != nil:
		if fault.KindOf(err) == fault.Unavailable && fault.RetryAfter(err) == 0 { // it may have been recorded
			i.ledger.Release(p.intent.Serial)
		}
		return Certificate{}, i.refuse(ctx, p.intent.Record, err)
	case begun.Repeat != nil:
		return Certificate{DER: begun.Repeat, Repeated: true}, nil
	}
	failpoint.Here(failpoint.SignerIntent)
	der, err := i.certify(working, p.intent.TBS)
	if err != nil {
		return Certificate{}, i.giveUp(ctx, begun.Reservation, err)
	}
	failpoint.Note(failpoint.SignerSigned, p.intent.Serial)
	failpoint.Here(failpoint.SignerSigned)
	stored, err := i.ledger.Issued(working, begun.Reservation, der)
	if err != nil {
		i.ledger.Release(p.intent.Serial)
		return Certificate{}, fmt.Errorf("recording the certificate: %w", err)
	}
	failpoint.Here(failpoint.SignerIssued)
	return Certificate{DER: stored}, nil
}

// giveUp ends an intent that could not be signed. Unless the key says that it was not used,
// somebody may have a signature.
func (i *Issuer) giveUp(ctx context.Context, r ledger.Reservation, cause error) error {
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	end := i.ledger.Abandon
	if errors.Is(cause, key.ErrNotUsed) {
		end = i.ledger.Failed
	}
	if err := end(ending, r, cause); err != nil {
		i.ledger.Release(r.Serial())
		i.log.LogAttrs(ctx, slog.LevelError, "intent left open", slog.Any("error", err))
	}
	return cause
}

// refuse has a refusal recorded, also for a caller who has gone, and returns it. What was
// not decided is no refusal. A refusal that cannot be recorded is not given: the answer is
// Unavailable then.
func (i *Issuer) refuse(ctx context.Context, r audit.Record, cause error) error {
	r.Event, r.Outcome, r.Reason = "certificate.refused", audit.Refused, cause.Error()
	switch kind := fault.KindOf(cause); {
	case errors.Is(cause, ledger.ErrBudget):
		i.exhausted.Inc()
		i.log.LogAttrs(ctx, slog.LevelError, "a budget is used up", slog.String("error", cause.Error()))
	case kind == fault.Busy, kind == fault.Unavailable:
		return cause
	case kind == fault.Internal:
		r.Outcome = audit.Failed
	}
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if err := i.ledger.RecordRefusal(recording, r); err != nil {
		return fault.New(fault.Unavailable, "issue.refuse", "", fmt.Errorf("recording a refusal (%s): %w", r.Reason, err))
	}
	return cause
}

func fingerprint(h [32]byte) string { return hex.EncodeToString(h[:]) }
