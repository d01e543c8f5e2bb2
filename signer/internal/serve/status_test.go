package serve_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

const (
	sha1hash   = signerv1.OCSPHash_OCSP_HASH_SHA1
	sha256hash = signerv1.OCSPHash_OCSP_HASH_SHA256
)

func (l *lab) enrol(principal string) *x509.Certificate {
	l.t.Helper()
	issued := must[*signerv1.IssueResponse](l.t)(signerv1.NewIssuerClient(l.gateway).Issue(l.t.Context(), l.ask(principal)))
	return must[*x509.Certificate](l.t)(x509.ParseCertificate(issued.GetCertificateDer()))
}

func (l *lab) ocsp(serial []byte, hash signerv1.OCSPHash, nonce []byte) ([]byte, error) {
	r, err := signerv1.NewAuthorityClient(l.gateway).GetOCSP(l.t.Context(), &signerv1.GetOCSPRequest{Serial: serial, Hash: hash, Nonce: nonce})
	return r.GetResponseDer(), err
}

// status returns a response that verifies, under a responder's certificate that may do so.
func (l *lab) status(of *x509.Certificate) *ocsp.Response {
	l.t.Helper()
	der, err := l.ocsp(of.SerialNumber.Bytes(), sha1hash, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r := must[*ocsp.Response](l.t)(ocsp.ParseResponseForCert(der, of, l.ca.Certificate))
	c := r.Certificate
	if c == nil || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || c.IsCA ||
		c.KeyUsage != x509.KeyUsageDigitalSignature || c.CheckSignatureFrom(l.ca.Certificate) != nil {
		l.t.Fatalf("the responder's certificate: %+v", c)
	}
	if now := l.clock(); r.ThisUpdate.After(now) || !r.NextUpdate.After(now) || r.NextUpdate.After(c.NotAfter) || c.NotBefore.After(now) {
		l.t.Errorf("at %v from %v to %v, of a responder until %v", now, r.ThisUpdate, r.NextUpdate, c.NotAfter)
	}
	return r
}

// TestStatus: what the ledger has at this moment, through hold, release and the end.
func TestStatus(t *testing.T) {
	l := newLab(t)
	c := l.enrol("pump-1")
	serial := fmt.Sprintf("%x", c.SerialNumber)
	mustBe := func(status, reason int) {
		t.Helper()
		if r := l.status(c); r.Status != status || r.Status == ocsp.Revoked && (r.RevocationReason != reason || !r.RevokedAt.Equal(l.clock())) {
			t.Errorf("status %d for reason %d at %v, not %d for %d", r.Status, r.RevocationReason, r.RevokedAt, status, reason)
		}
	}
	mustBe(ocsp.Good, 0)
	for _, step := range []struct {
		reason signerv1.RevocationReason
		status int
	}{
		{signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD, ocsp.Revoked},
		{signerv1.RevocationReason_REVOCATION_REASON_REMOVE_FROM_CRL, ocsp.Good},
		{signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE, ocsp.Revoked},
	} {
		if err := l.revokeByAdmin(serial, step.reason); err != nil {
			t.Fatal(err)
		}
		mustBe(step.status, int(step.reason))
	}
}

func TestStatusRefusals(t *testing.T) {
	l := newLab(t)
	c := l.enrol("pump-1")
	serial := c.SerialNumber.Bytes()
	other := append(bytes.Clone(serial[:19]), serial[19]^1)
	for name, ask := range map[string]struct {
		serial []byte
		hash   signerv1.OCSPHash
		nonce  []byte
		kind   fault.Kind
	}{
		"a serial number of nobody": {other, sha1hash, nil, fault.NotFound},
		"none":                      {nil, sha1hash, nil, fault.Malformed},
		"zero":                      {make([]byte, 20), sha1hash, nil, fault.Malformed},
		"a long one":                {make([]byte, 21), sha1hash, nil, fault.Malformed},
		"no hash":                   {serial, 0, nil, fault.Malformed},
		"a hash to come":            {serial, 9, nil, fault.Malformed},
		"a long nonce":              {serial, sha1hash, make([]byte, 129), fault.Malformed},
	} {
		if _, err := l.ocsp(ask.serial, ask.hash, ask.nonce); !errors.Is(err, ask.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The authority's key was used for the certificate alone: nothing was to be said so far.
	if n := l.key.uses(); n != 1 {
		t.Errorf("the key was used %d times", n)
	}
	// A row without its MAC: revoked, and made good again by whoever writes to the database.
	if err := l.revokeByAdmin(hex.EncodeToString(serial), signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE); err != nil {
		t.Fatal(err)
	}
	err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE entry SET revoked_at = $1, revocation_reason = $1`, sql.NullInt64{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.ocsp(serial, sha1hash, nil); !errors.Is(err, fault.Internal) {
		t.Errorf("an altered row: %v", err)
	}
}

// TestResponder: one key for all, renewed at the half of its life, kept while it cannot be,
// and never used beyond its end.
func TestResponder(t *testing.T) {
	l := newLab(t)
	c := l.enrol("pump-1")
	before := l.key.uses()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { _, _ = l.ocsp(c.SerialNumber.Bytes(), sha256hash, nil) })
	}
	all.Wait()
	first := l.status(c).Certificate
	if n := l.key.uses() - before; n != 1 {
		t.Errorf("the authority's key was used %d times for one responder", n)
	}
	same := func(as *x509.Certificate, want bool) *x509.Certificate {
		t.Helper()
		got := l.status(c).Certificate
		if got.Equal(as) != want {
			t.Errorf("at %v: responder until %v", l.clock(), got.NotAfter)
		}
		return got
	}
	l.pass(83 * time.Hour)
	same(first, true)
	l.pass(2 * time.Hour)
	second := same(first, false)
	if bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("the new responder has the old key")
	}
	l.key.set(errors.New("no session"))
	l.pass(90 * time.Hour)
	used := l.key.uses()
	same(second, true)
	same(second, true)
	if n := l.key.uses() - used; n != 1 {
		t.Errorf("a key that does not answer was asked %d times within a minute", n)
	}
	l.pass(77*time.Hour + 30*time.Minute)
	same(second, true) // its responses end with it
	l.pass(time.Hour)
	if _, err := l.ocsp(c.SerialNumber.Bytes(), sha1hash, nil); !errors.Is(err, fault.Unavailable) {
		t.Errorf("behind the responder's end, without a key: %v", err)
	}
	l.key.set(nil)
	same(second, false)
	var events []string
	err := l.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT record FROM audit_record ORDER BY seq`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var record string
			if err := rows.Scan(&record); err != nil {
				return err
			}
			for _, event := range []string{"intent", "issued", "failed"} {
				if strings.Contains(record, "ocsp.responder."+event) {
					events = append(events, event)
				}
			}
		}
		return rows.Err()
	})
	if got := strings.Join(events, " "); err != nil || got != "intent issued intent issued intent failed intent failed intent failed intent issued" {
		t.Errorf("audited: %s, %v", got, err)
	}
}

// TestOpenSSLBelieves: another implementation, with its own reading of every field and of
// the nonce.
func TestOpenSSLBelieves(t *testing.T) {
	l := newLab(t)
	c := l.enrol("pump-1")
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, der, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	openssl := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
		return string(out), err
	}
	for name, der := range map[string][]byte{"ca": l.ca.Certificate.Raw, "leaf": c.Raw} {
		if out, err := openssl("x509", "-inform", "DER", "-in", write(name+".der", der), "-out", filepath.Join(dir, name)); err != nil {
			t.Fatal(out)
		}
	}
	issuer, leaf, request := filepath.Join(dir, "ca"), filepath.Join(dir, "leaf"), filepath.Join(dir, "request")
	for digest, hash := range map[string]signerv1.OCSPHash{"-sha1": sha1hash, "-sha256": sha256hash} {
		out, err := openssl("ocsp", "-issuer", issuer, digest, "-cert", leaf, "-nonce", "-reqout", request)
		if err != nil {
			t.Fatal(out)
		}
		der := must[[]byte](t)(os.ReadFile(request))
		parsed := must[*ocsp.Request](t)(ocsp.ParseRequest(der))
		if want := map[signerv1.OCSPHash]crypto.Hash{sha1hash: crypto.SHA1, sha256hash: crypto.SHA256}[hash]; parsed.HashAlgorithm != want {
			t.Fatalf("%s: asked by %v", digest, parsed.HashAlgorithm)
		}
		// The nonce stands at the end: an OCTET STRING of 16 octets within another one.
		nonce := der[len(der)-16:]
		for _, good := range []bool{true, false} {
			if !good {
				nonce = bytes.Repeat([]byte{7}, 16)
			}
			response := write("response", must[[]byte](t)(l.ocsp(parsed.SerialNumber.Bytes(), hash, nonce)))
			out, err := openssl("ocsp", "-issuer", issuer, "-reqin", request, "-respin", response, "-CAfile", issuer)
			if believed := err == nil && strings.Contains(out, "Response verify OK") && !strings.Contains(out, "Nonce Verify error"); believed != good {
				t.Errorf("%s, with its nonce %v: %v %s", digest, good, err, out)
			}
		}
		response := write("response", must[[]byte](t)(l.ocsp(parsed.SerialNumber.Bytes(), hash, nil)))
		out, err = openssl("ocsp", "-issuer", issuer, digest, "-cert", leaf, "-respin", response, "-CAfile", issuer)
		if err != nil || !strings.Contains(out, "leaf: good") || !strings.Contains(out, "Response verify OK") {
			t.Errorf("%s: %v %s", digest, err, out)
		}
	}
}
