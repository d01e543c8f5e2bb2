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
	// Authority returns its name, and its certificates, issuing first, at least one.
	Authority(context.Context) (name string, chain []*x509.Certificate, err error)
}

// ListsConfig is what Lists are made of. All are required.
type ListsConfig struct {
	Signer    Signer
	Authority Authority
	// Log gets a line when fetching begins to fail, and for a list that is not one.
	Log *slog.Logger
	// Metrics has the number of the list and the end of its time.
	Metrics *metrics.Set
	// Now is the clock.
	Now func() time.Time
}

// Lists keeps the newest revocation list. It is safe for concurrent use.
type Lists struct {
	c ListsConfig
	// there is closed when there is a list.
	there chan struct{}

	mu      sync.RWMutex // guards what follows
	newest  *x509.RevocationList
	reasons map[string]int // of newest, by the octets of the serial number
	failed  error          // why the last fetch did
}

// NewLists returns Lists that know nothing yet.
func NewLists(c ListsConfig) (*Lists, error) {
	if c.Signer == nil || c.Authority == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("publishing a revocation list needs a signer, an authority, a log, metrics and a clock")
	}
	l := &Lists{c: c, there: make(chan struct{})}
	c.Metrics.GetOrCreateGauge("estuary_gateway_crl_number", func() float64 {
		if list := l.kept(); list != nil {
			number, _ := new(big.Float).SetInt(list.Number).Float64()
			return number
		}
		return 0
	})
	c.Metrics.GetOrCreateGauge("estuary_gateway_crl_next_update_seconds", func() float64 {
		if list := l.kept(); list != nil {
			return float64(list.NextUpdate.Unix())
		}
		return 0
	})
	return l, nil
}

// Run fetches at once and then every Refresh until ctx ends.
func (l *Lists) Run(ctx context.Context) error {
	for {
		l.fetch(ctx)
		pause := Refresh
		if l.kept() == nil {
			pause = first
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Current returns the newest list. While there is none it waits for one, three seconds at most:
// whoever comes when the service has just begun is not sent away. The error is a *fault.Error
// Unavailable if there is none then, or when the time of the newest is over.
func (l *Lists) Current(ctx context.Context) (*x509.RevocationList, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-l.there:
	case <-ctx.Done():
	}
	return l.current()
}

func (l *Lists) current() (*x509.RevocationList, error) {
	list := l.kept()
	switch {
	case list == nil:
		return nil, fault.New(fault.Unavailable, "publish.Current", "there is no revocation list yet", nil)
	case !l.c.Now().Before(list.NextUpdate):
		return nil, fault.New(fault.Unavailable, "publish.Current", "the revocation list is out of date", nil)
	}
	return list, nil
}

// Check tells, for readiness, that there is no list, that its time is over, or that no newer
// one comes although most of its time is.
func (l *Lists) Check(context.Context) error {
	list, err := l.current()
	if err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	late := list.ThisUpdate.Add(list.NextUpdate.Sub(list.ThisUpdate) * 3 / 4) // signers make a new one at the half
	if l.failed != nil && l.c.Now().After(late) {
		return fmt.Errorf("no newer revocation list comes: %w", l.failed)
	}
	return nil
}

func (l *Lists) kept() *x509.RevocationList {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.newest
}

// Revoked tells whether the newest list, however old it is, has a certificate, and for which
// reason (RFC 5280 section 5.3.1).
func (l *Lists) Revoked(c *x509.Certificate) (reason int, revoked bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.newest == nil || !bytes.Equal(l.newest.RawIssuer, c.RawIssuer) || !bytes.Equal(l.newest.AuthorityKeyId, c.AuthorityKeyId) {
		return 0, false
	}
	reason, revoked = l.reasons[string(c.SerialNumber.Bytes())]
	return reason, revoked
}

func reasonsOf(list *x509.RevocationList) map[string]int {
	reasons := make(map[string]int, len(list.RevokedCertificateEntries))
	for _, e := range list.RevokedCertificateEntries {
		reasons[string(e.SerialNumber.Bytes())] = e.ReasonCode
	}
	return reasons
}

// fetch asks the signer, and keeps what is newer.
func (l *Lists) fetch(ctx context.Context) {
	list, err := l.ask(ctx)
	var reasons map[string]int
	if err == nil && list != l.kept() {
		reasons = reasonsOf(list)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if reasons != nil && newer(list, l.newest) {
		if l.newest == nil {
			close(l.there)
		}
		l.newest, l.reasons = list, reasons
		l.c.Log.LogAttrs(ctx, slog.LevelInfo, "revocation list fetched", slog.String("number", list.Number.String()),
			slog.Int("entries", len(list.RevokedCertificateEntries)), slog.Time("next_update", list.NextUpdate))
	}
	switch {
	case err != nil && l.failed == nil:
		l.c.Log.LogAttrs(ctx, slog.LevelWarn, "fetching the revocation list", slog.Any("err", err))
	case err == nil && l.failed != nil:
		l.c.Log.LogAttrs(ctx, slog.LevelInfo, "the signer hands out the revocation list again")
	}
	l.failed = err
}

// newer tells whether a list takes the place of another one: it has a greater number, or is
// another authority's, whose numbers begin anew.
func newer(list, than *x509.RevocationList) bool {
	return than == nil || !bytes.Equal(list.AuthorityKeyId, than.AuthorityKeyId) || list.Number.Cmp(than.Number) > 0
}

// ask fetches a list and verifies it. One that there is already is not fetched again.
func (l *Lists) ask(ctx context.Context) (*x509.RevocationList, error) {
	_, chain, err := l.c.Authority.Authority(ctx)
	if err != nil {
		return nil, err
	}
	issuer := chain[0]
	der, err := l.parts(ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("fetching the revocation list: %w", err)
	}
	if der == nil {
		return l.kept(), nil
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("reading the revocation list: %w", err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("verifying the revocation list: %w", err)
	}
	now := l.c.Now()
	if list.Number == nil || list.ThisUpdate.After(now.Add(skew)) || !list.NextUpdate.After(now) {
		return nil, fmt.Errorf("the revocation list has no number, or is not of this time: %s to %s", list.ThisUpdate, list.NextUpdate)
	}
	return list, nil
}

// parts puts the list together; nil where the signer has none that is newer than the one that
// is kept: another signer may have made that.
func (l *Lists) parts(ctx context.Context, issuer *x509.Certificate) (der []byte, err error) {
	number := int64(0)
	have := l.kept()
	if have != nil && !bytes.Equal(have.AuthorityKeyId, issuer.SubjectKeyId) {
		have = nil
	}
	for {
		r, err := l.c.Signer.GetCRL(ctx, &signerv1.GetCRLRequest{Offset: uint64(len(der)), Number: number})
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
