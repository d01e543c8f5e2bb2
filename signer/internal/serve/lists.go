package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/crl"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

const (
	// listBackdate makes a new list valid for relying parties whose clocks are behind.
	listBackdate = 5 * time.Minute
	// endTime bounds how long the record of a list's end may take.
	endTime = 5 * time.Second
)

// list is a signed revocation list.
type list struct {
	der                 []byte
	number              int64
	changes             int64 // how often what is revoked had changed
	renewAt, nextUpdate time.Time
}

// lists makes revocation lists and keeps the newest.
type lists struct {
	authority *ca.Authority
	scope     ledger.Scope
	ledger    *ledger.Ledger
	log       *slog.Logger
	now       func() time.Time
	// life is the time to nextUpdate. A new list is made at its half, so that relying parties
	// live through an outage of the other half.
	life   time.Duration
	points []string
	// building holds a token while a list is made: the others that wait for it take the
	// result, or go when their time is over.
	building chan struct{}

	mu     sync.Mutex // guards newest
	newest list
}

// current returns a list in the first half of its life, with everything that is revoked now by
// any signer of the ledger. While no new one can be made an older one is returned until it
// ends; then the error is Unavailable.
func (l *lists) current(ctx context.Context) (list, error) {
	if have := l.kept(); l.fresh(ctx, have) {
		return have, nil
	}
	select {
	case l.building <- struct{}{}:
		defer func() { <-l.building }()
	case <-ctx.Done():
		return list{}, fault.New(fault.Unavailable, "serve.GetCRL", "", ctx.Err())
	}
	have := l.kept()
	if l.fresh(ctx, have) {
		return have, nil
	}
	made, err := l.make(ctx)
	if err == nil {
		l.keep(made)
		return made, nil
	}
	l.log.LogAttrs(ctx, slog.LevelError, "no new revocation list", slog.Any("error", err))
	if l.now().Before(have.nextUpdate) {
		return have, nil
	}
	return list{}, fault.New(fault.Unavailable, "serve.GetCRL", "", err)
}

// fresh tells whether a list is one to hand out. Where the ledger does not say whether
// something has changed, it is one as long as it would be otherwise.
func (l *lists) fresh(ctx context.Context, have list) bool {
	if !l.now().Before(have.renewAt) {
		return false
	}
	changes, err := l.ledger.Revocations(ctx)
	if err != nil {
		l.log.LogAttrs(ctx, slog.LevelWarn, "whether more is revoked is not known", slog.Any("error", err))
		return true
	}
	return changes == have.changes
}

func (l *lists) kept() list {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

func (l *lists) keep(made list) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = made
}

// make signs a list under the next number of the ledger. The number is taken, and the
// intent audited, before the key is used.
func (l *lists) make(ctx context.Context) (list, error) {
	now := l.now()
	// Counted before the rows are read: what comes in between is found by the next look.
	changes, err := l.ledger.Revocations(ctx)
	if err != nil {
		return list{}, err
	}
	number, revoked, err := l.ledger.BeginCRL(ctx, l.scope, 2*l.life)
	if err != nil {
		return list{}, fmt.Errorf("taking a CRL number: %w", err)
	}
	entries, err := entries(revoked)
	made := list{number: number, changes: changes, renewAt: now.Add(l.life / 2), nextUpdate: now.Add(l.life)}
	if err == nil {
		made.der, err = crl.Build(ctx, l.authority, crl.List{
			Number: big.NewInt(number), ThisUpdate: now.Add(-listBackdate), NextUpdate: made.nextUpdate, Entries: entries,
			DistributionPoints: l.points,
		})
	}
	// The end is recorded although the caller may have gone.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := errors.Join(err, l.ledger.EndCRL(ending, number, err)); err != nil {
		return list{}, err
	}
	return made, nil
}

func entries(revoked []ledger.Revoked) ([]crl.Entry, error) {
	all := make([]crl.Entry, 0, len(revoked))
	for _, r := range revoked {
		serial, ok := new(big.Int).SetString(r.Serial, 16)
		if !ok {
			return nil, fmt.Errorf("the ledger's serial number %q is not hexadecimal", r.Serial)
		}
		all = append(all, crl.Entry{Serial: serial, RevokedAt: r.At, Reason: r.Reason})
	}
	return all, nil
}
