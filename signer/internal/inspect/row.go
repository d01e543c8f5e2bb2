package inspect

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// row looks at one row.
func (i *inspection) row(s ledger.Stored) {
	if s.Altered {
		i.wrong(s.Seq, "the row of serial %s was altered: it does not carry its MAC", s.Serial)
		return
	}
	if s.CreatedAt.After(i.Now().Add(future)) {
		i.wrong(s.Seq, "serial %s is dated in the future, %s: by a clock that was wrong", s.Serial, s.CreatedAt.Format(time.RFC3339))
	}
	request, a, err := i.asserted(s)
	if err != nil {
		i.wrong(s.Seq, "serial %s: %v", s.Serial, err)
		i.mu.Lock()
		i.unopened = true
		i.mu.Unlock()
		return
	}
	if presented := fmt.Sprintf("%040x", a.GetPresentedCertificate().GetSerial()); s.Predecessor != "" && s.Predecessor != presented {
		i.wrong(s.Seq, "serial %s is filed as the successor of %s, and was issued on %s", s.Serial, s.Predecessor, presented)
	}
	i.use(s, a)
	if s.State != signerv1.EntryState_ENTRY_STATE_ISSUED {
		return
	}
	if err := i.certificate(s, request); err != nil {
		i.wrong(s.Seq, "serial %s: %v", s.Serial, err)
	}
}

// asserted opens the stored assertion as it was opened then, for the stored request.
func (i *inspection) asserted(s ledger.Stored) (*csr.Request, *assertionv1.Assertion, error) {
	request, err := csr.Parse(s.CSR)
	if err != nil {
		return nil, nil, fmt.Errorf("the stored request: %w", err)
	}
	want := assertion.Expect{CSRSHA256: request.SHA256(), SPKISHA256: request.SPKISHA256()}
	v, err := i.Opener.OpenStored(s.Sealed, want, s.CreatedAt)
	if err != nil {
		return nil, nil, fmt.Errorf("the stored assertion: %w", err)
	}
	a := v.Message()
	if s.Label != a.GetLabel() || s.Realm != a.GetIdentity().GetRealm() || s.Principal != a.GetIdentity().GetPrincipal() ||
		s.ValidatorKey != v.KeyID() {
		return nil, nil, errors.New("the row is filed under another label, identity or validator than its assertion names")
	}
	return request, a, nil
}

// certificate holds the certificate against what was to be signed, the request and the
// authority.
func (i *inspection) certificate(s ledger.Stored, request *csr.Request) error {
	c, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	switch {
	case fmt.Sprintf("%040x", c.SerialNumber) != s.Serial:
		return errors.New("the certificate has another serial number")
	case !bytes.Equal(c.RawTBSCertificate, s.TBS):
		return errors.New("the certificate does not say what was recorded before it was signed")
	case !bytes.Equal(c.RawSubjectPublicKeyInfo, request.SPKI()):
		return errors.New("the certificate is for another key than the request")
	}
	for _, authority := range i.Authorities {
		if err = c.CheckSignatureFrom(authority); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the certificate's signature: %w", err)
}

// audit holds the audit against the rows: neither tells of a certificate that the other does
// not know.
func (i *inspection) audit(ctx context.Context, v *ledger.View) error {
	issued := map[string]bool{}
	err := v.Audited(ctx, func(r audit.Record) {
		state, known := i.seen[r.Serial]
		switch {
		case r.Event != "certificate.issued":
		case issued[r.Serial]:
			i.wrong(0, "the audit tells twice that serial %s was issued", r.Serial)
		case !known:
			i.wrong(0, "the audit tells that serial %s was issued, and the ledger has no row of it", r.Serial)
		case state != signerv1.EntryState_ENTRY_STATE_ISSUED:
			i.wrong(0, "the audit tells that serial %s was issued, and the ledger says %s", r.Serial, state)
		}
		if r.Event == "certificate.issued" {
			issued[r.Serial] = true
		}
	})
	if err != nil {
		return err
	}
	for serial, state := range i.seen {
		if state == signerv1.EntryState_ENTRY_STATE_ISSUED && !issued[serial] {
			i.wrong(0, "serial %s was issued without a record of the audit", serial)
		}
	}
	return nil
}
