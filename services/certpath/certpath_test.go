package certpath_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/certpath"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
)

var (
	now       = time.Now().Truncate(time.Second)
	issue     = certpathtest.Issue
	authority = certpathtest.Authority
)

type holder = certpathtest.Holder

func TestVerify(t *testing.T) {
	root := issue(t, nil, nil, authority)
	between := issue(t, root, nil, authority)
	other := issue(t, nil, nil, authority)
	narrow := issue(t, root, nil, func(c *x509.Certificate) {
		authority(c)
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.test"}
	})
	large, err := rsa.GenerateKey(rand.Reader, 4104)
	if err != nil {
		t.Fatal(err)
	}
	leaf := issue(t, root, nil, nil)
	for name, c := range map[string]struct {
		chain []*holder
		grace time.Duration
		want  error
	}{
		"by an anchor":       {[]*holder{leaf}, 0, nil},
		"by an intermediate": {[]*holder{issue(t, between, nil, nil), between}, 0, nil},
		"with the anchor":    {[]*holder{leaf, root}, 0, nil},
		"for clients":        {[]*holder{issue(t, root, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, 0, nil},
		"nothing":            {nil, 0, certpath.ErrNone},
		"a link is missing":  {[]*holder{issue(t, between, nil, nil)}, 0, certpath.ErrUntrusted},
		"another's":          {[]*holder{issue(t, other, nil, nil), other}, 0, certpath.ErrUntrusted},
		"another's, expired": {[]*holder{issue(t, other, nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })}, 0, certpath.ErrUntrusted},
		"self-signed":        {[]*holder{issue(t, nil, nil, nil)}, 0, certpath.ErrUntrusted},
		"by a leaf":          {[]*holder{issue(t, leaf, nil, nil), leaf}, 0, certpath.ErrUntrusted},
		"outside the names":  {[]*holder{issue(t, narrow, nil, func(c *x509.Certificate) { c.DNSNames = []string{"a.test"} }), narrow}, 0, certpath.ErrUntrusted},
		"an unknown rule": {[]*holder{issue(t, root, nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})}, 0, certpath.ErrUntrusted},
		"an authority":        {[]*holder{between}, 0, certpath.ErrAuthority},
		"expired":             {[]*holder{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })}, 0, certpath.ErrExpired},
		"within the grace":    {[]*holder{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })}, time.Minute, nil},
		"behind the grace":    {[]*holder{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-2 * time.Minute) })}, time.Minute, certpath.ErrExpired},
		"not yet":             {[]*holder{issue(t, root, nil, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) })}, time.Minute, certpath.ErrEarly},
		"for servers":         {[]*holder{issue(t, root, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, 0, certpath.ErrUsage},
		"in disorder":         {[]*holder{issue(t, between, nil, nil), root, between}, 0, certpath.ErrUntrusted},
		"a false signature":   {[]*holder{forged(issue(t, root, nil, nil))}, 0, certpath.ErrUntrusted},
		"a false one between": {[]*holder{issue(t, between, nil, nil), forged(between)}, 0, certpath.ErrUntrusted},
		"6 certificates":      {[]*holder{leaf, root, root, root, root, root}, 0, certpath.ErrTooMany},
		"a large RSA key":     {[]*holder{issue(t, root, large, nil)}, 0, certpath.ErrKey},
		"a large key between": {[]*holder{leaf, issue(t, root, large, authority)}, 0, certpath.ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			var ders [][]byte
			for _, h := range c.chain {
				ders = append(ders, h.Raw)
			}
			chain, err := certpath.Parse(ders)
			var path certpath.Path
			if err == nil {
				path, err = certpath.Verify(chain, certpath.NewAnchors(root.Certificate), now, c.grace)
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (!path.Anchor.Equal(root.Certificate) || !path.Leaf.Equal(c.chain[0].Certificate)) {
				t.Errorf("path from %s to %s", path.Leaf.Subject, path.Anchor.Subject)
			}
		})
	}
	if _, err := certpath.Parse([][]byte{leaf.Raw, {0x30, 0}}); !errors.Is(err, certpath.ErrUnreadable) {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := certpath.Parse([][]byte{make([]byte, certpath.MaxOctets+1)}); !errors.Is(err, certpath.ErrTooMany) {
		t.Errorf("too much: %v", err)
	}
}

func TestReadAnchors(t *testing.T) {
	block := func(h *holder) string { return string(h.PEM()) }
	root, leaf := issue(t, nil, nil, authority), issue(t, nil, nil, nil)
	path := filepath.Join(t.TempDir(), "a.pem")
	for content, want := range map[string]string{
		block(root) + "\n" + block(root): "",
		"":                               "in PEM alone",
		block(root) + "and more":         "in PEM alone",
		block(leaf):                      "none of an authority",
		"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n": "holds a PRIVATE KEY",
		"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n": "certificate 1 of",
		strings.Repeat("#", 1<<20+1):                               "larger than",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := certpath.ReadAnchors(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", content, err, want)
		}
		if err == nil && len(a.All()) != 2 {
			t.Errorf("%d anchors", len(a.All()))
		}
	}
	if _, err := certpath.ReadAnchors(path + "x"); err == nil {
		t.Error("a file that is not there was read")
	}
}

// forged is a certificate whose signature is not that of its issuer.
func forged(h *holder) *holder {
	der := bytes.Clone(h.Raw)
	der[len(der)-1] ^= 1
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &holder{Certificate: c, Key: h.Key}
}

func TestHints(t *testing.T) {
	root := issue(t, nil, nil, authority).Certificate
	many := make([]*x509.Certificate, 1000)
	for i := range many {
		many[i] = root
	}
	if certpath.NewAnchors(root).Hints() == nil || certpath.NewAnchors(many...).Hints() != nil {
		t.Error("hints beyond what a message holds, or none within")
	}
}

// BenchmarkBomb is what strangers can present: certificates that could each be certified by each,
// with the dearest keys, under the name of a trusted authority. BenchmarkPath is what the holder
// of a trusted intermediate can.
func BenchmarkBomb(b *testing.B) {
	root := issue(b, nil, nil, authority)
	benchmark(b, root, func(c *x509.Certificate) {
		authority(c)
		c.Subject.CommonName = root.Subject.CommonName
	}, false)
}

func BenchmarkPath(b *testing.B) { benchmark(b, issue(b, nil, nil, authority), authority, true) }

func benchmark(b *testing.B, root *holder, change func(*x509.Certificate), good bool) {
	key := func() crypto.Signer {
		k, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		return k
	}
	by := root
	if !good {
		by = issue(b, nil, key(), change)
	}
	var chain []*x509.Certificate
	for range certpath.MaxCertificates - 1 {
		by = issue(b, by, key(), change)
		chain = append([]*x509.Certificate{by.Certificate}, chain...)
	}
	chain = append([]*x509.Certificate{issue(b, by, nil, nil).Certificate}, chain...)
	anchors := certpath.NewAnchors(root.Certificate)
	for b.Loop() {
		if _, err := certpath.Verify(chain, anchors, now, 0); (err == nil) != good {
			b.Fatal(err)
		}
	}
}
