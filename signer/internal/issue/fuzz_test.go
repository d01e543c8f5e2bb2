package issue_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/issue"
)

// vouched returns an issue request whose assertion is about der, whatever der is.
func vouched(t *testing.T, l *lab, der []byte) *signerv1.IssueRequest {
	t.Helper()
	spki, ok := issue.SubjectPublicKeyInfo(der)
	if !ok {
		t.Fatal("the request has no public key")
	}
	a := l.assertion(request(t, newKey(t)))
	csrHash, spkiHash := sha256.Sum256(der), sha256.Sum256(spki)
	a.CsrSha256, a.SpkiSha256 = csrHash[:], spkiHash[:]
	return &signerv1.IssueRequest{Assertion: l.sealed(a), CsrDer: der}
}

// Whatever csr.Parse accepts has the public key that was looked up before.
func FuzzSubjectPublicKeyInfo(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x02, 0x30, 0x00})
	f.Add(request(f, newKey(f), "pump-7.test"))
	f.Fuzz(func(t *testing.T, der []byte) {
		spki, ok := issue.SubjectPublicKeyInfo(der)
		r, err := csr.Parse(der)
		if err == nil && (!ok || !bytes.Equal(spki, r.SPKI())) {
			t.Errorf("%x is not the public key of %x", spki, der)
		}
	})
}
