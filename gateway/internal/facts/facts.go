// Package facts turns the signer's public facts, its chain and the rules of its profiles,
// into answers that are there at once.
//
// est asks it on every request. It fetches from the signer when it starts, every 5 s, and
// on demand for what it does not know; while the signer is down it keeps what it last had,
// so that /cacerts goes on being served.
package facts

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

const (
	// Refresh is how often the facts are fetched.
	Refresh = 5 * time.Second
	// StaleAfter is the age from which on readiness names the facts as a failing part.
	StaleAfter = 90 * time.Second
	// onDemand is the shortest time between two fetches that requests may cause, so that
	// requests for an unknown label do not become a load on the signer.
	onDemand = time.Second
)

// Authority is what the facts come from; signerv1.AuthorityClient is one.
type Authority interface {
	// GetChain returns the authority's certificates, issuing first.
	GetChain(context.Context, *signerv1.GetChainRequest, ...grpc.CallOption) (*signerv1.GetChainResponse, error)
	// ListProfiles returns the facts of every profile.
	ListProfiles(context.Context, *signerv1.ListProfilesRequest, ...grpc.CallOption) (*signerv1.ListProfilesResponse, error)
}

// Config is what a Cache is made of. All are required.
type Config struct {
	// Authority is the signer; its calls end by themselves after a time.
	Authority Authority
	// Log gets a line when fetching begins to fail and when it works again.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Cache holds the last good facts.
type Cache struct {
	signer Authority
	log    *slog.Logger
	now    func() time.Time

	turn   chan struct{} // holds an element during a fetch; guards ended and result
	ended  time.Time     // when a fetch last ended
	result error         // what it ended with

	mu        sync.RWMutex // guards what follows; held for moments only
	authority authority
	profiles  map[string]*signerv1.ProfileFacts
	fetched   time.Time // when a fetch last succeeded; zero before the first
}

// authority is what is known of the authority. It is never changed.
type authority struct {
	chain   []*x509.Certificate
	issuers []Issuer
	issuing []*x509.Certificate
}

// New returns a Cache that knows nothing yet.
func New(c Config) (*Cache, error) {
	if c.Authority == nil || c.Log == nil || c.Now == nil {
		return nil, errors.New("the cache of facts needs an authority, a log and a clock")
	}
	return &Cache{signer: c.Authority, log: c.Log, now: c.Now, turn: make(chan struct{}, 1)}, nil
}

// Run fetches at once and then every Refresh, or every onDemand while nothing is known,
// until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	for {
		// The error is logged where it begins and shown by Check.
		_ = c.fetch(ctx, 0)
		pause := Refresh
		if _, known := c.last(); !known {
			pause = onDemand // the signer may only be slower to start than the gateway
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Issuer is an authority that issues certificates, or did.
type Issuer struct {
	// Name is the one below /crl/ and /ca/.
	Name string
	// Certificate is its own, with a subject key identifier.
	Certificate *x509.Certificate
}

// Chain returns the certificates for /cacerts: that which issues, those above it, and what else
// clients need while its key changes. They must not be changed. The error is a *fault.Error
// Unavailable while none has ever been fetched.
func (c *Cache) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	known, err := c.known(ctx)
	return known.chain, err
}

// Issuers returns the authority that issues and behind it those that did. Errors are those of
// Chain.
func (c *Cache) Issuers(ctx context.Context) ([]Issuer, error) {
	known, err := c.known(ctx)
	return known.issuers, err
}

// Issuing returns the certificates of Issuers, as far as they are known, without waiting. The
// same slice holds the same certificates.
func (c *Cache) Issuing() []*x509.Certificate {
	known, _ := c.last()
	return known.issuing
}

func (c *Cache) known(ctx context.Context) (authority, error) {
	if _, known := c.last(); !known {
		if err := c.fetch(ctx, onDemand); err != nil {
			return authority{}, err
		}
	}
	a, _ := c.last()
	return a, nil
}

// Profile returns the facts of the profile of a label. The error is a *fault.Error:
// NotFound when the signer has no such profile, Unavailable while nothing is known.
func (c *Cache) Profile(ctx context.Context, label string) (*signerv1.ProfileFacts, error) {
	if p, _ := c.profile(label); p != nil {
		return p, nil
	}
	err := c.fetch(ctx, onDemand)
	p, known := c.profile(label)
	switch {
	case p != nil:
		return p, nil
	case !known:
		return nil, err
	}
	return nil, fault.New(fault.NotFound, "facts.Profile", "the certification authority does not serve this label", nil)
}

// Check tells, for readiness, that the facts are missing or older than StaleAfter.
func (c *Cache) Check(context.Context) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fetched.IsZero() {
		return errors.New("the signer's facts have not been fetched yet")
	}
	if age := c.now().Sub(c.fetched); age > StaleAfter {
		return fmt.Errorf("the signer's facts are %s old", age.Round(time.Second))
	}
	return nil
}

func (c *Cache) last() (a authority, known bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.authority, !c.fetched.IsZero()
}

func (c *Cache) profile(label string) (p *signerv1.ProfileFacts, known bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.profiles[label], !c.fetched.IsZero()
}

// fetch asks the signer, unless somebody did within the last pause. One fetch runs at a
// time; whoever waited for it takes its result, so that a signer that hangs is not asked by
// one waiting request after the other. A failure is a *fault.Error Unavailable.
func (c *Cache) fetch(ctx context.Context, pause time.Duration) error {
	recent := c.now().Add(-pause)
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "facts.fetch", "", ctx.Err())
	}
	if c.ended.After(recent) {
		return c.result
	}
	err := c.ask(ctx)
	c.ended = c.now()
	failed := c.result != nil
	c.result = nil
	if err != nil {
		c.result = fault.New(fault.Unavailable, "facts.fetch", "", err)
	}
	switch {
	case err != nil && !failed:
		c.log.LogAttrs(ctx, slog.LevelWarn, "fetching facts from the signer", slog.Any("err", err))
	case err == nil && failed:
		c.log.LogAttrs(ctx, slog.LevelInfo, "facts fetched from the signer again")
	}
	return c.result
}

func (c *Cache) ask(ctx context.Context) error {
	response, err := c.signer.GetChain(ctx, &signerv1.GetChainRequest{})
	if err != nil {
		return fmt.Errorf("getting the chain: %w", err)
	}
	read, err := parse(response)
	if err != nil {
		return err
	}
	list, err := c.signer.ListProfiles(ctx, &signerv1.ListProfilesRequest{})
	if err != nil {
		return fmt.Errorf("listing profiles: %w", err)
	}
	profiles := make(map[string]*signerv1.ProfileFacts, len(list.GetProfiles()))
	for _, p := range list.GetProfiles() {
		profiles[p.GetLabel()] = p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.EqualFunc(c.authority.issuing, read.issuing, (*x509.Certificate).Equal) {
		read.issuing = c.authority.issuing
	}
	c.authority, c.profiles, c.fetched = read, profiles, c.now()
	return nil
}

// parse reads what the signer says of the authority.
func parse(r *signerv1.GetChainResponse) (a authority, err error) {
	add := func(what, name string, ders [][]byte, issuer bool) error {
		for i, der := range ders {
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				return fmt.Errorf("parsing certificate %d of %s: %w", i, what, err)
			}
			if issuer && i == 0 {
				a.issuers = append(a.issuers, Issuer{Name: name, Certificate: certificate})
				a.issuing = append(a.issuing, certificate)
			}
			if !slices.ContainsFunc(a.chain, certificate.Equal) {
				a.chain = append(a.chain, certificate)
			}
		}
		return nil
	}
	if len(r.GetCertificates()) == 0 {
		return authority{}, errors.New("getting the chain: it is empty")
	}
	err = add("the chain", r.GetName(), r.GetCertificates(), true)
	for _, f := range r.GetFormer() {
		err = errors.Join(err, add("a former chain", f.GetName(), f.GetCertificates(), true))
	}
	return a, errors.Join(err, add("what is announced", "", r.GetAnnounced(), false))
}
