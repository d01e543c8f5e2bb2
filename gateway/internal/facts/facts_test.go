package facts_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/estuary-pki/estuary/gateway/internal/facts"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// signer is an authority whose answers a test can change while it runs.
type signer struct {
	calls atomic.Int32
	down  atomic.Bool
	delay time.Duration
	chain [][]byte
	label atomic.Value

	former    []*signerv1.FormerAuthority
	announced [][]byte
}

func (s *signer) GetChain(ctx context.Context, _ *signerv1.GetChainRequest, _ ...grpc.CallOption) (*signerv1.GetChainResponse, error) {
	s.calls.Add(1)
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.down.Load() {
		return nil, fault.New(fault.Unavailable, "test", "", nil)
	}
	return &signerv1.GetChainResponse{Name: "new", Certificates: s.chain, Former: s.former, Announced: s.announced}, nil
}

func (s *signer) ListProfiles(context.Context, *signerv1.ListProfilesRequest, ...grpc.CallOption) (*signerv1.ListProfilesResponse, error) {
	return &signerv1.ListProfilesResponse{Profiles: []*signerv1.ProfileFacts{{Label: s.label.Load().(string)}}}, nil
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{chain: [][]byte{der}}
	s.label.Store("default")
	return s
}

func newCache(t *testing.T, s *signer) *facts.Cache {
	t.Helper()
	c, err := facts.New(facts.Config{Authority: s, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The signer goes away and comes back: the last good facts stay, readiness tells their age.
func TestKeepsTheLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		c := newCache(t, s)
		if c.Check(t.Context()) == nil {
			t.Error("ready before the first fetch")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		if err := c.Check(ctx); err != nil {
			t.Errorf("not ready after the first fetch: %v", err)
		}
		s.down.Store(true)
		time.Sleep(facts.StaleAfter - time.Second)
		synctest.Wait()
		if err := c.Check(ctx); err != nil {
			t.Errorf("stale too early: %v", err)
		}
		time.Sleep(2 * time.Second)
		if c.Check(ctx) == nil {
			t.Error("ready with stale facts")
		}
		if chain, err := c.Chain(ctx); err != nil || len(chain) != 1 {
			t.Errorf("chain of %d, %v", len(chain), err)
		}
		if p, err := c.Profile(ctx, "default"); err != nil || p.GetLabel() != "default" {
			t.Errorf("profile %v, %v", p, err)
		}
		s.down.Store(false)
		time.Sleep(facts.Refresh)
		synctest.Wait()
		if err := c.Check(ctx); err != nil {
			t.Errorf("not ready after the signer came back: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		c := newCache(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = c.Run(ctx) }()
		time.Sleep(10*facts.Refresh + time.Second)
		if n := s.calls.Load(); n != 11 {
			t.Errorf("%d fetches in ten periods, want 11", n)
		}
		cancel()
	})
}

func TestOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		c := newCache(t, s)
		if _, err := c.Chain(t.Context()); err != nil {
			t.Fatal(err)
		}
		// A label that nobody has: one fetch a second, whoever asks.
		time.Sleep(2 * time.Second)
		before := s.calls.Load()
		for range 100 {
			if _, err := c.Profile(t.Context(), "devices"); !errors.Is(err, fault.NotFound) {
				t.Fatalf("error %v", err)
			}
		}
		if n := s.calls.Load() - before; n != 1 {
			t.Errorf("100 requests caused %d fetches", n)
		}
		// The signer learns it: found without waiting for the next period.
		s.label.Store("devices")
		time.Sleep(2 * time.Second)
		if _, err := c.Profile(t.Context(), "devices"); err != nil {
			t.Errorf("a new profile is not found: %v", err)
		}
	})
}

// Requests that wait for a fetch that hangs do not ask one after the other.
func TestHangingSigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		s.delay = 5 * time.Second
		s.down.Store(true)
		c := newCache(t, s)
		errs := make(chan error)
		start := time.Now()
		for range 50 {
			go func() { _, err := c.Chain(t.Context()); errs <- err }()
		}
		for range 50 {
			if err := <-errs; !errors.Is(err, fault.Unavailable) {
				t.Errorf("error %v", err)
			}
		}
		if took := time.Since(start); took > 5*time.Second || s.calls.Load() != 1 {
			t.Errorf("%d fetches in %s", s.calls.Load(), took)
		}
	})
}

func TestRefusesBadChains(t *testing.T) {
	for name, chain := range map[string][][]byte{"empty": nil, "junk": {[]byte("junk")}} {
		s := newSigner(t)
		s.chain = chain
		if _, err := newCache(t, s).Chain(t.Context()); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewChecks(t *testing.T) {
	if _, err := facts.New(facts.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

// TestRollover: while the key changes there are two issuers, and each certificate once.
func TestRollover(t *testing.T) {
	s, old, tie := newSigner(t), newSigner(t).chain[0], newSigner(t).chain[0]
	c := newCache(t, s)
	if len(c.Issuing()) != 0 {
		t.Error("something is known of nothing")
	}
	s.former = []*signerv1.FormerAuthority{{Name: "old", Certificates: [][]byte{old}}}
	s.announced = [][]byte{s.chain[0], tie, old}
	chain, err := c.Chain(t.Context())
	if err != nil || len(chain) != 3 || !bytes.Equal(chain[0].Raw, s.chain[0]) || !bytes.Equal(chain[1].Raw, old) || !bytes.Equal(chain[2].Raw, tie) {
		t.Errorf("%d certificates, %v", len(chain), err)
	}
	issuers, err := c.Issuers(t.Context())
	if err != nil || len(issuers) != 2 || issuers[0].Name != "new" || issuers[1].Name != "old" || len(c.Issuing()) != 2 {
		t.Errorf("issuers %v, %v", issuers, err)
	}
	s.announced = [][]byte{{1}}
	if _, err := newCache(t, s).Chain(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("an announced certificate that is none: %v", err)
	}
}
