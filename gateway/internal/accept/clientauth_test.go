package accept_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/gateway/internal/accept"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
)

// authorities are our own, one of the file, and another.
type authorities struct {
	own, listed, other *certpathtest.Holder
	known              []*x509.Certificate // of our own
	file               string
}

func newAuthorities(t *testing.T) (*authorities, *accept.Anchors) {
	t.Helper()
	a := &authorities{}
	for _, ca := range []**certpathtest.Holder{&a.own, &a.listed, &a.other} {
		*ca = certpathtest.Issue(t, nil, nil, certpathtest.Authority)
	}
	a.known, a.file = []*x509.Certificate{a.own.Certificate}, certpathtest.File(t, a.listed)
	anchors, err := accept.NewAnchors(accept.AnchorsConfig{
		File: a.file, Authority: func() []*x509.Certificate { return a.known }, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, anchors
}

// presents makes a connection and a request with a certificate, whatever the server hints at.
func (f *fixture) presents(t *testing.T, c tls.Certificate, version uint16) (leaf, count string, err error) {
	t.Helper()
	conn, err := f.dial(&tls.Config{MaxVersion: version, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }})
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close() }()
	// Under TLS 1.3 the server's verdict comes behind the handshake.
	response, err := tryGet(conn)
	if err != nil {
		return "", "", err
	}
	return response.Header.Get("Leaf"), response.Header.Get("Presented"), nil
}

func TestModes(t *testing.T) {
	a, anchors := newAuthorities(t)
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	bomb := certpathtest.Issue(t, a.other, key, certpathtest.Authority)
	many := make([]*certpathtest.Holder, 100)
	for i := range many {
		many[i] = bomb
	}
	leaf := func(by *certpathtest.Holder, change func(*x509.Certificate)) *certpathtest.Holder {
		return certpathtest.Issue(t, by, nil, change)
	}
	for name, c := range map[string]struct {
		presented *certpathtest.Holder
		behind    []*certpathtest.Holder
		required  bool   // whether a connection may go on where a certificate is required
		count     string // how many the validator gets where none is
	}{
		"none":        {nil, nil, false, "0"},
		"ours":        {leaf(a.own, nil), nil, true, "1"},
		"of the file": {leaf(a.listed, nil), []*certpathtest.Holder{a.listed}, true, "2"},
		"another's":   {leaf(a.other, nil), nil, false, "1"},
		"expired":     {leaf(a.own, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil, false, "1"},
		"not yet":     {leaf(a.own, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), nil, false, "1"},
		"for servers": {leaf(a.own, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil, false, "1"},
		"a bomb":      {leaf(bomb, nil), many, false, "too many"},
	} {
		for _, mode := range accept.Modes {
			f := startAuth(t, roomy, accept.ClientAuth{Mode: mode, Anchors: anchors})
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				var offered tls.Certificate
				want := ""
				if c.presented != nil {
					offered = c.presented.TLS(c.behind...)
					sum := sha256.Sum256(c.presented.Raw)
					want = hex.EncodeToString(sum[:])
				}
				got, count, err := f.presents(t, offered, version)
				switch {
				case mode == accept.ModeRequired && !c.required:
					if err == nil {
						t.Errorf("%s, %s, %s: a connection", name, mode, tls.VersionName(version))
					}
				case mode == accept.ModeNone:
					if err != nil || count != "0" {
						t.Errorf("%s, %s, %s: %s certificates, %v", name, mode, tls.VersionName(version), count, err)
					}
				case err != nil || got != want && c.count != "too many" || count != c.count:
					t.Errorf("%s, %s, %s: %s certificates, the first %q, %v", name, mode, tls.VersionName(version), count, got, err)
				}
			}
		}
	}
}

// TestResumed: the certificate comes back with the session, and is required anew.
func TestResumed(t *testing.T) {
	a, anchors := newAuthorities(t)
	f := startAuth(t, roomy, accept.ClientAuth{Mode: accept.ModeRequired, Anchors: anchors})
	c := certpathtest.Issue(t, a.own, nil, nil).TLS()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{MaxVersion: version, Certificates: []tls.Certificate{c}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		for n := range 2 {
			conn, err := f.dial(config)
			if err != nil {
				t.Fatal(err)
			}
			response := get(t, conn)
			if response.Header.Get("Presented") != "1" || conn.ConnectionState().DidResume != (n == 1) {
				t.Errorf("%s, connection %d: %s certificates, resumed %v", tls.VersionName(version), n, response.Header.Get("Presented"), conn.ConnectionState().DidResume)
			}
			_ = conn.Close()
		}
		known := a.known
		a.known = nil // our own authority is not to be trusted any more
		if conn, err := f.dial(config); err == nil {
			if _, err = tryGet(conn); err == nil {
				t.Errorf("%s: resumed with a certificate that is not trusted", tls.VersionName(version))
			}
		}
		a.known = known
	}
}

// TestAnchorsChange: with the signer's facts and with the file.
func TestAnchorsChange(t *testing.T) {
	a, anchors := newAuthorities(t)
	f := startAuth(t, roomy, accept.ClientAuth{Mode: accept.ModeRequired, Anchors: anchors})
	good := func(by *certpathtest.Holder) bool {
		_, _, err := f.presents(t, certpathtest.Issue(t, by, nil, nil).TLS(), tls.VersionTLS13)
		return err == nil
	}
	if !good(a.own) || !good(a.listed) || good(a.other) {
		t.Error("not what is trusted at first")
	}
	a.known = []*x509.Certificate{a.other.Certificate}
	if good(a.own) || !good(a.other) {
		t.Error("our own authority has changed, and nobody knows")
	}
	if err := os.WriteFile(a.file, append(a.own.PEM(), a.own.PEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	if !good(a.own) || good(a.listed) || f.server.Check(t.Context()) != nil {
		t.Errorf("the file has changed, and nobody knows: %v", f.server.Check(t.Context()))
	}
	if err := os.WriteFile(a.file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !good(a.own) || f.server.Check(t.Context()) == nil {
		t.Error("a broken file: the old is not in use, or nobody is told")
	}
}

func TestIncompleteAuth(t *testing.T) {
	f := start(t, roomy)
	for _, auth := range []accept.ClientAuth{{Mode: "sometimes"}, {Mode: accept.ModeOptional}} {
		c := f.config(roomy, nil)
		c.Handler, c.ClientAuth = noHandler{}, auth
		if _, err := accept.New(c); err == nil {
			t.Errorf("%+v accepted", auth)
		}
	}
	if _, err := accept.NewAnchors(accept.AnchorsConfig{}); err == nil {
		t.Error("anchors of nothing")
	}
	_, err := accept.NewAnchors(accept.AnchorsConfig{
		File: "/nowhere", Authority: func() []*x509.Certificate { return nil }, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
	})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
