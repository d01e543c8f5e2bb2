package issue_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// Whatever a profile may come to by mistake: some certificates are never signed.
func TestDraftRefuses(t *testing.T) {
	l := newLab(t, key.P256, 0)
	r, err := csr.Parse(request(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"good":               {func(*x509.Certificate) {}, ""},
		"authority":          {func(c *x509.Certificate) { c.IsCA = true }, "one of an authority"},
		"signs certificates": {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "one of an authority"},
		"signs lists":        {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, "one of an authority"},
		"outlives us":        {func(c *x509.Certificate) { c.NotAfter = l.ca.Certificate.NotAfter.Add(time.Second) }, "not within this authority's"},
		"older than we":      {func(c *x509.Certificate) { c.NotBefore = l.ca.Certificate.NotBefore.Add(-time.Second) }, "not within this authority's"},
		"no time":            {func(c *x509.Certificate) { c.NotAfter = c.NotBefore }, "not within this authority's"},
		"our own subject":    {func(c *x509.Certificate) { c.RawSubject = l.ca.Certificate.RawSubject }, "does not name this authority"},
		"lint: long name":    {func(c *x509.Certificate) { c.Subject.CommonName = long(65) }, "e_subject_common_name_max_length"},
		"lint: empty SAN":    {func(c *x509.Certificate) { c.DNSNames = []string{""} }, "e_ext_san_empty_name"},
		"lint: no names":     {func(c *x509.Certificate) { c.Subject = pkix.Name{} }, "e_"},
	} {
		t.Run(name, func(t *testing.T) {
			template := &x509.Certificate{
				SerialNumber: big.NewInt(1).Lsh(big.NewInt(1), 158), Subject: pkix.Name{CommonName: "pump-7"},
				NotBefore: l.now, NotAfter: l.now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
				SubjectKeyId: make([]byte, 20),
			}
			c.change(template)
			switch err := l.issuer.Draft(template, r); {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("answered %v, not %q", err, c.says)
			}
		})
	}
	if n := l.key.used.Load(); n != 0 {
		t.Errorf("the key was used %d times", n)
	}
}
