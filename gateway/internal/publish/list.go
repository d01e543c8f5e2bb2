// Package publish turns the signer's revocation list and certificate into files for everybody.
//
// It fetches the list in parts, verifies it, and keeps the newest: for its own listener, plain
// HTTP at the URLs that stand in certificates (RFC 5280 sections 4.2.1.13 and 4.2.2.1), and for
// est. While the signer is down it goes on with what it has, and it never goes back to an
// older list.
package publish

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"

	"github.com/estuary-pki/estuary/gateway/internal/facts"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

const (
	// Refresh is how often the signer is asked for a newer list.
	Refresh = 5 * time.Second
	// first is that while there is none.
	first = time.Second
	// patience is for how long a client waits for the first list.
	patience = 3 * time.Second
	// maxList bounds a list, in octets: some 600,000 certificates.
	maxList = 32 << 20
	// skew is by how much the signer's clock may be ahead.
	skew = 5 * time.Minute
)

// Signer is what the list comes from; signerv1.AuthorityClient is one.
type Signer interface {
	// GetCRL returns a part of the newest list.
	GetCRL(context.Context, *signerv1.GetCRLRequest, ...grpc.CallOption) (*signerv1.GetCRLResponse, error)
}

// Authority is what is known of the certification authority; facts.Cache is one.
type Authority interface {
	// Issuers returns the one that issues and behind it those that did, at least one.
	Issuers(context.Context) ([]facts.Issuer, error)
}

// ListsConfig is what Lists are made of. All are required.
type ListsConfig struct {
	Signer    Signer
	Authority Authority
	// Log gets a line when fetching begins to fail, and for a list that is not one.
	Log *slog.Logger
	// Metrics has the number of each list and the end of its time.
	Metrics *metrics.Set
	// Now is the clock.
	Now func() time.Time
}

// Lists keeps the newest revocation list of each authority. It is safe for concurrent use.
type Lists struct {
	c ListsConfig

	mu sync.Mutex       // guards what follows
	of map[string]*list // by subject key identifier
}

// NewLists returns Lists that know nothing yet.
func NewLists(c ListsConfig) (*Lists, error) {
	if c.Signer == nil || c.Authority == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("publishing a revocation list needs a signer, an authority, a log, metrics and a clock")
	}
	return &Lists{c: c, of: map[string]*list{}}, nil
}

// list is the newest one of an authority.
type list struct {
	c      ListsConfig
	issuer facts.Issuer
	// there is closed when there is one.
	there chan struct{}

	mu      sync.RWMutex // guards what follows
	newest  *x509.RevocationList
	reasons map[string]int // of newest, by the octets of the serial number
	failed  error          // why the last fetch did
}

// list returns the one of an authority.
func (l *Lists) list(issuer facts.Issuer) *list {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := string(issuer.Certificate.SubjectKeyId)
	if have := l.of[key]; have != nil {
		return have
	}
	made := &list{c: l.c, issuer: issuer, there: make(chan struct{})}
	l.of[key] = made
	gauge := func(name string, f func(*x509.RevocationList) float64) {
		l.c.Metrics.GetOrCreateGauge(fmt.Sprintf("%s{authority=%q}", name, issuer.Name), func() float64 {
			if kept := made.kept(); kept != nil {
				return f(kept)
			}
			return 0
		})
	}
	gauge("estuary_gateway_crl_number", func(kept *x509.RevocationList) float64 {
		number, _ := new(big.Float).SetInt(kept.Number).Float64()
		return number
	})
	gauge("estuary_gateway_crl_next_update_seconds", func(kept *x509.RevocationList) float64 { return float64(kept.NextUpdate.Unix()) })
	return made
}

// all returns the list of each authority, that of the one which issues first.
func (l *Lists) all(ctx context.Context) ([]*list, error) {
	issuers, err := l.c.Authority.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	var all []*list
	for _, issuer := range issuers {
		all = append(all, l.list(issuer))
	}
	return all, nil
}

// Run fetches at once and then every Refresh until ctx ends.
func (l *Lists) Run(ctx context.Context) error {
	for {
		pause := Refresh
		all, err := l.all(ctx)
		if err != nil {
			pause = first
		}
		for _, one := range all {
			if one.fetch(ctx); one.kept() == nil {
				pause = first
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Current returns the newest list of each authority, that of the one which issues first. While
// there is none of that it waits for one, three seconds at most: whoever comes when the service
// has just begun is not sent away. The error is a *fault.Error Unavailable if there is none then,
// or when the time of one is over.
func (l *Lists) Current(ctx context.Context) ([]*x509.RevocationList, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all, err := l.all(ctx)
	if err != nil {
		return nil, err
	}
	var lists []*x509.RevocationList
	for _, one := range all {
		kept, err := one.wait(ctx)
		if err != nil {
			return nil, err
		}
		lists = append(lists, kept)
	}
	return lists, nil
}

// Of returns the newest list of one authority, as Current does.
func (l *Lists) Of(ctx context.Context, issuer facts.Issuer) (*x509.RevocationList, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return l.list(issuer).wait(ctx)
}

// Check tells, for readiness, that there is no list, that its time is over, or that no newer
// one comes although most of its time is.
func (l *Lists) Check(ctx context.Context) error {
	all, err := l.all(ctx)
	if err != nil {
		return err
	}
	for _, one := range all {
		if err := one.check(); err != nil {
			return fmt.Errorf("%s: %w", one.issuer.Name, err)
		}
	}
	return nil
}

// Revoked tells whether the newest list of a certificate's authority, however old it is, has it,
// and for which reason (RFC 5280 section 5.3.1).
func (l *Lists) Revoked(c *x509.Certificate) (reason int, revoked bool) {
	l.mu.Lock()
	one := l.of[string(c.AuthorityKeyId)]
	l.mu.Unlock()
	if one == nil || !bytes.Equal(one.issuer.Certificate.RawSubject, c.RawIssuer) {
		return 0, false
	}
	one.mu.RLock()
	defer one.mu.RUnlock()
	reason, revoked = one.reasons[string(c.SerialNumber.Bytes())]
	return reason, revoked
}

func (l *list) wait(ctx context.Context) (*x509.RevocationList, error) {
	select {
	case <-l.there:
	case <-ctx.Done():
	}
	return l.current()
}

func (l *list) current() (*x509.RevocationList, error) {
	kept := l.kept()
	switch {
	case kept == nil:
		return nil, fault.New(fault.Unavailable, "publish.Current", "there is no revocation list yet", nil)
	case !l.c.Now().Before(kept.NextUpdate):
		return nil, fault.New(fault.Unavailable, "publish.Current", "the revocation list is out of date", nil)
	}
	return kept, nil
}

func (l *list) check() error {
	kept, err := l.current()
	if err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	late := kept.ThisUpdate.Add(kept.NextUpdate.Sub(kept.ThisUpdate) * 3 / 4) // signers make a new one at the half
	if l.failed != nil && l.c.Now().After(late) {
		return fmt.Errorf("no newer revocation list comes: %w", l.failed)
	}
	return nil
}

func (l *list) kept() *x509.RevocationList {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.newest
}

func reasonsOf(list *x509.RevocationList) map[string]int {
	reasons := make(map[string]int, len(list.RevokedCertificateEntries))
	for _, e := range list.RevokedCertificateEntries {
		reasons[string(e.SerialNumber.Bytes())] = e.ReasonCode
	}
	return reasons
}

// fetch asks the signer, and keeps what is newer.
func (l *list) fetch(ctx context.Context) {
	got, err := l.ask(ctx)
	var reasons map[string]int
	if err == nil && got != l.kept() {
		reasons = reasonsOf(got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if reasons != nil && (l.newest == nil || got.Number.Cmp(l.newest.Number) > 0) {
		if l.newest == nil {
			close(l.there)
		}
		l.newest, l.reasons = got, reasons
		l.c.Log.LogAttrs(ctx, slog.LevelInfo, "revocation list fetched", slog.String("authority", l.issuer.Name), slog.String("number", got.Number.String()),
			slog.Int("entries", len(got.RevokedCertificateEntries)), slog.Time("next_update", got.NextUpdate))
	}
	switch {
	case err != nil && l.failed == nil:
		l.c.Log.LogAttrs(ctx, slog.LevelWarn, "fetching the revocation list", slog.String("authority", l.issuer.Name), slog.Any("err", err))
	case err == nil && l.failed != nil:
		l.c.Log.LogAttrs(ctx, slog.LevelInfo, "the signer hands out the revocation list again", slog.String("authority", l.issuer.Name))
	}
	l.failed = err
}

// ask fetches a list and verifies it. One that there is already is not fetched again.
func (l *list) ask(ctx context.Context) (*x509.RevocationList, error) {
	issuer := l.issuer.Certificate
	der, err := l.parts(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the revocation list: %w", err)
	}
	if der == nil {
		return l.kept(), nil
	}
	got, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("reading the revocation list: %w", err)
	}
	if err := got.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("verifying the revocation list: %w", err)
	}
	now := l.c.Now()
	if got.Number == nil || got.ThisUpdate.After(now.Add(skew)) || !got.NextUpdate.After(now) {
		return nil, fmt.Errorf("the revocation list has no number, or is not of this time: %s to %s", got.ThisUpdate, got.NextUpdate)
	}
	return got, nil
}

// parts puts the list together; nil where the signer has none that is newer than the one that
// is kept: another signer may have made that.
func (l *list) parts(ctx context.Context) (der []byte, err error) {
	number := int64(0)
	have := l.kept()
	for {
		r, err := l.c.Signer.GetCRL(ctx, &signerv1.GetCRLRequest{
			Offset: uint64(len(der)), Number: number, Authority: l.issuer.Certificate.SubjectKeyId,
		})
		if err != nil {
			return nil, err
		}
		if number == 0 && have != nil && have.Number.Cmp(big.NewInt(r.GetNumber())) >= 0 {
			return nil, nil
		}
		number = r.GetNumber()
		der = append(der, r.GetCrlDer()...)
		switch {
		case len(r.GetCrlDer()) == 0 || r.GetSize() > maxList || uint64(len(der)) > r.GetSize():
			return nil, errors.New("the signer's parts make no list")
		case uint64(len(der)) == r.GetSize():
			return der, nil
		}
	}
}
