package publish_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/grpc"

	"github.com/estuary-pki/estuary/gateway/internal/facts"
	"github.com/estuary-pki/estuary/gateway/internal/publish"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// signer is an authority with a list; its callbacks change both.
type signer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu    sync.Mutex // guards what follows
	der   []byte
	list  int64
	err   error
	calls int
	part  int // octets of a part

	former *signer // a former key of the authority, where it has one
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	s := &signer{part: 100}
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err == nil {
		s.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// make signs a list of that number, for an hour from the given time on.
func (s *signer) make(t *testing.T, number int64, from time.Time, edit func(*x509.RevocationList)) {
	t.Helper()
	template := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: from, NextUpdate: from.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: from}},
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, s.cert, s.key)
	if err != nil {
		t.Fatal(err)
	}
	s.set(der, number, nil)
}

func (s *signer) set(der []byte, number int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.der, s.list, s.err = der, number, err
}

func (s *signer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *signer) GetCRL(ctx context.Context, r *signerv1.GetCRLRequest, _ ...grpc.CallOption) (*signerv1.GetCRLResponse, error) {
	if s.former != nil && bytes.Equal(r.GetAuthority(), s.former.cert.SubjectKeyId) {
		return s.former.GetCRL(ctx, r)
	}
	if !bytes.Equal(r.GetAuthority(), s.cert.SubjectKeyId) {
		return nil, fault.New(fault.NotFound, "test", "no such authority", nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return nil, s.err
	}
	end := min(len(s.der), int(r.GetOffset())+s.part)
	return &signerv1.GetCRLResponse{CrlDer: s.der[r.GetOffset():end], Number: s.list, Size: uint64(len(s.der))}, nil
}

func (s *signer) Issuers(context.Context) ([]facts.Issuer, error) {
	issuers := []facts.Issuer{{Name: "example ca", Certificate: s.cert}}
	if s.former != nil {
		issuers = append(issuers, facts.Issuer{Name: "old", Certificate: s.former.cert})
	}
	return issuers, nil
}

func newLists(t *testing.T, s *signer) *publish.Lists {
	t.Helper()
	l, err := publish.NewLists(publish.ListsConfig{
		Signer: s, Authority: s, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running runs the lists within the bubble of a test.
func running(t *testing.T, l *publish.Lists) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func number(t *testing.T, l *publish.Lists) int64 {
	t.Helper()
	lists, err := l.Current(t.Context())
	if err != nil {
		return 0
	}
	return lists[0].Number.Int64()
}

// TestNewestIsKept: whatever the signer hands out afterwards, and while it hands out nothing.
func TestNewestIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		s.set(nil, 0, fault.New(fault.Unavailable, "test", "", nil))
		l := newLists(t, s)
		running(t, l)
		synctest.Wait()
		if _, err := l.Current(t.Context()); !errors.Is(err, fault.Unavailable) || l.Check(t.Context()) == nil {
			t.Errorf("before there is one: %v", err)
		}
		s.make(t, 5, time.Now(), nil)
		time.Sleep(2 * time.Second)
		if number(t, l) != 5 || l.Check(t.Context()) != nil {
			t.Fatalf("list %d, %v", number(t, l), l.Check(t.Context()))
		}
		before := s.asked()
		time.Sleep(2 * publish.Refresh)
		if n := s.asked() - before; n > 2 {
			t.Errorf("the same list was fetched in %d calls", n)
		}
		other := newSigner(t)
		for name, spoil := range map[string]func(){
			"an older one":  func() { s.make(t, 4, time.Now(), nil) },
			"no list":       func() { s.set([]byte("no list"), 9, nil) },
			"nothing":       func() { s.set([]byte{}, 9, nil) },
			"nobody":        func() { s.set(nil, 0, errors.New("down")) },
			"one of a past": func() { s.make(t, 9, time.Now().Add(-2*time.Hour), nil) },
			"one to come":   func() { s.make(t, 9, time.Now().Add(10*time.Minute), nil) },
			"another's": func() {
				other.make(t, 9, time.Now(), nil)
				s.set(other.der, 9, nil)
			},
		} {
			spoil()
			time.Sleep(publish.Refresh + time.Second)
			if number(t, l) != 5 {
				t.Errorf("%s: list %d", name, number(t, l))
			}
		}
		s.make(t, 6, time.Now(), nil)
		time.Sleep(publish.Refresh)
		if number(t, l) != 6 {
			t.Errorf("list %d, not the newer one", number(t, l))
		}
		s.set(nil, 0, errors.New("down"))
		time.Sleep(40 * time.Minute)
		if number(t, l) != 6 || l.Check(t.Context()) != nil {
			t.Errorf("list %d, %v", number(t, l), l.Check(t.Context()))
		}
		time.Sleep(10 * time.Minute)
		if number(t, l) != 6 || l.Check(t.Context()) == nil {
			t.Errorf("most of its time is over, and readiness says nothing")
		}
		time.Sleep(10 * time.Minute)
		if _, err := l.Current(t.Context()); !errors.Is(err, fault.Unavailable) {
			t.Errorf("behind its time: %v", err)
		}
	})
}

// TestFirstIsWaitedFor: who comes before the signer has answered gets the list and no refusal,
// and who has no time is not kept.
func TestFirstIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		s.set(nil, 0, fault.New(fault.Unavailable, "test", "", nil))
		l := newLists(t, s)
		running(t, l)
		synctest.Wait()
		s.make(t, 1, time.Now(), nil)
		hasty, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := l.Current(hasty); !errors.Is(err, fault.Unavailable) {
			t.Errorf("without time: %v", err)
		}
		if n := number(t, l); n != 1 {
			t.Errorf("list %d", n)
		}
	})
}

// TestRevoked: who is on the newest list, of this authority alone.
func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		l := newLists(t, s)
		leaf := func(serial int64) *x509.Certificate {
			return &x509.Certificate{SerialNumber: big.NewInt(serial), RawIssuer: s.cert.RawSubject, AuthorityKeyId: s.cert.SubjectKeyId}
		}
		if _, revoked := l.Revoked(leaf(7)); revoked {
			t.Error("revoked before there is a list")
		}
		s.make(t, 1, time.Now(), func(c *x509.RevocationList) { c.RevokedCertificateEntries[0].ReasonCode = 6 })
		running(t, l)
		synctest.Wait()
		if reason, revoked := l.Revoked(leaf(7)); !revoked || reason != 6 {
			t.Errorf("revoked %v, for %d", revoked, reason)
		}
		other := leaf(7)
		other.AuthorityKeyId = []byte{1}
		if _, revoked := l.Revoked(other); revoked {
			t.Error("another authority's certificate")
		}
		s.make(t, 2, time.Now(), func(c *x509.RevocationList) { c.RevokedCertificateEntries = nil })
		time.Sleep(publish.Refresh + time.Second)
		if _, revoked := l.Revoked(leaf(7)); revoked {
			t.Error("revoked after its release")
		}
	})
}

// TestFormerKey: its list is fetched beside the other, stands at its own address, and tells of
// the certificates of its own alone.
func TestFormerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		s.former = newSigner(t)
		s.make(t, 3, time.Now(), nil)
		s.former.make(t, 2, time.Now(), func(c *x509.RevocationList) { c.RevokedCertificateEntries[0].SerialNumber = big.NewInt(8) })
		l := newLists(t, s)
		running(t, l)
		synctest.Wait()
		lists, err := l.Current(t.Context())
		if err != nil || len(lists) != 2 || lists[0].Number.Int64() != 3 || lists[1].Number.Int64() != 2 || l.Check(t.Context()) != nil {
			t.Fatalf("%d lists, %v, %v", len(lists), err, l.Check(t.Context()))
		}
		issuers, _ := s.Issuers(t.Context())
		if list, err := l.Of(t.Context(), issuers[1]); err != nil || list.Number.Int64() != 2 {
			t.Errorf("of the former: %v, %v", list, err)
		}
		for _, c := range []struct {
			by      *signer
			serial  int64
			revoked bool
		}{{s, 7, true}, {s, 8, false}, {s.former, 8, true}, {s.former, 7, false}} {
			leaf := &x509.Certificate{SerialNumber: big.NewInt(c.serial), RawIssuer: c.by.cert.RawSubject, AuthorityKeyId: c.by.cert.SubjectKeyId}
			if _, revoked := l.Revoked(leaf); revoked != c.revoked {
				t.Errorf("serial %d of the former %v: revoked %v", c.serial, c.by == s.former, revoked)
			}
		}
		s.former.set(nil, 0, errors.New("down"))
		time.Sleep(50 * time.Minute)
		if err := l.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "old: no newer revocation list comes") {
			t.Errorf("readiness says %v", err)
		}
	})
}

// TestFiles: over a real connection, by name alone, with what a cache needs.
func TestFiles(t *testing.T) {
	s := newSigner(t)
	l := newLists(t, s)
	server, err := publish.NewServer(publish.ServerConfig{Lists: l, Responses: newResponses(t, &oracle{signer: s}), Authority: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	ask := func(method, path string, header ...string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+ln.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(header) == 2 {
			req.Header.Set(header[0], header[1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	if resp, body := ask("GET", "/crl/example%20ca.crl"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("before there is a list: %d %s", resp.StatusCode, body)
	}
	s.make(t, 255, time.Now(), nil)
	fetch, stop := context.WithCancel(ctx)
	go func() { _ = l.Run(fetch) }() // ends with stop
	defer stop()
	for i := 0; number(t, l) == 0 && i < 100; i++ {
		time.Sleep(20 * time.Millisecond)
	}
	resp, body := ask("GET", "/crl/example%20ca.crl")
	if resp.StatusCode != http.StatusOK || body != string(s.der) || resp.Header.Get("Content-Type") != "application/pkix-crl" ||
		resp.Header.Get("ETag") != `"ff"` || resp.Header.Get("Last-Modified") == "" || resp.Header.Get("Cache-Control") != "public, max-age=30" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp, body := ask("GET", "/crl/example%20ca.crl", "If-None-Match", `"ff"`); resp.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("the same again: %d", resp.StatusCode)
	}
	if resp, body := ask("HEAD", "/crl/example%20ca.crl"); resp.StatusCode != http.StatusOK || body != "" || resp.ContentLength != int64(len(s.der)) {
		t.Errorf("HEAD: %d, %d octets", resp.StatusCode, resp.ContentLength)
	}
	if resp, body := ask("GET", "/ca/example%20ca.crt"); resp.StatusCode != http.StatusOK || body != string(s.cert.Raw) || resp.Header.Get("Content-Type") != "application/pkix-cert" {
		t.Errorf("certificate: %d %v", resp.StatusCode, resp.Header)
	}
	for path, status := range map[string]int{
		"/": 404, "/crl/other.crl": 404, "/crl/example%20ca.crt": 404, "/ca/example%20ca.crl": 404, "/crl/": 404,
		"/crl/../crl/example%20ca.crl": 404, "/crl/example+ca.crl": 404, "/.well-known/est/cacerts": 404,
	} {
		if resp, _ := ask("GET", path); resp.StatusCode != status {
			t.Errorf("%s: %d, not %d", path, resp.StatusCode, status)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		if resp, _ := ask(method, "/crl/example%20ca.crl"); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := publish.NewLists(publish.ListsConfig{}); err == nil {
		t.Error("lists of nothing")
	}
	if _, err := publish.NewServer(publish.ServerConfig{}); err == nil {
		t.Error("a server of nothing")
	}
	if _, err := publish.NewResponses(publish.ResponsesConfig{}); err == nil {
		t.Error("responses of nothing")
	}
}
