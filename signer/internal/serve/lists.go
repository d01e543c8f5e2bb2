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
	// listLife is the time from thisUpdate to nextUpdate. A new list is made at its half, so
	// that relying parties live through an outage of the other half.
	listLife = 24 * time.Hour
	// listBackdate makes a new list valid for relying parties whose clocks are behind.
	listBackdate = 5 * time.Minute
	// endTime bounds how long the record of a list's end may take.
	endTime = 5 * time.Second
)

// list is a signed revocation list.
type list struct {
	der                 []byte
	renewAt, nextUpdate time.Time
}

// lists makes revocation lists and keeps the newest.
type lists struct {
	authority *ca.Authority
	ledger    *ledger.Ledger
	log       *slog.Logger
	now       func() time.Time
	// building holds a token while a list is made: the others that wait for it take the
	// result, or go when their time is over.
	building chan struct{}

	mu     sync.Mutex // guards newest
	newest list
}

// current returns a list in the first half of its life. While no new one can be made an
// older one is returned until it ends; then the error is Unavailable.
func (l *lists) current(ctx context.Context) (list, error) {
	if have := l.kept(); l.now().Before(have.renewAt) {
		return have, nil
	}
	select {
	case l.building <- struct{}{}:
		defer func() { <-l.building }()
	case <-ctx.Done():
		return list{}, fault.New(fault.Unavailable, "serve.GetCRL", "", ctx.Err())
	}
	have := l.kept()
	if l.now().Before(have.renewAt) {
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
	number, revoked, err := l.ledger.BeginCRL(ctx)
	if err != nil {
		return list{}, fmt.Errorf("taking a CRL number: %w", err)
	}
	entries, err := entries(revoked)
	made := list{renewAt: now.Add(listLife / 2), nextUpdate: now.Add(listLife)}
	if err == nil {
		made.der, err = crl.Build(ctx, l.authority, crl.List{
			Number: big.NewInt(number), ThisUpdate: now.Add(-listBackdate), NextUpdate: made.nextUpdate, Entries: entries,
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
