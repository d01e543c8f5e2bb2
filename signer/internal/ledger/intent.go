package ledger

import (
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/store"
)

// Intent is a certificate that is about to be signed.
type Intent struct {
	// Serial is the serial number, 40 hexadecimal digits.
	Serial string
	// Verified is the assertion that authorises it.
	Verified assertion.Verified
	// Request is the certificate request that the assertion names.
	Request *csr.Request
	// TBS is the DER TBSCertificate (RFC 5280 section 4.1) that the CA key will sign.
	TBS []byte
	// Authority is the subject key identifier of the authority that will sign it.
	Authority []byte
	// Contents is what the certificate will say, in parts of any form; nothing in it may
	// depend on serial number or time. Another certificate is no repeat.
	Contents [][]byte
	// Subject is the subject of the certificate (RFC 4514), for searching.
	Subject string
	// NotBefore and NotAfter are the validity of the certificate.
	NotBefore, NotAfter time.Time
	// At is the time for which the certificate was built. With it, the assertion and the
	// profile the same TBS bytes can be built again.
	At time.Time
	// Line is what the certificate continues, or begins.
	Line Line
	// Successors says how often the presented certificate may be used up; nil where none was.
	Successors *Successors
	// Budgets are those that the certificate is taken from.
	Budgets []Budget
	// Record is what the audit says of the request: who, from where, for whom. Time, Event,
	// Outcome, Serial and Reason are set here.
	Record audit.Record
}

// Successors is how many certificates may follow another one, which takes the place of what the
// assertion says of it: it is the profile's to say.
type Successors struct {
	// Limit is how many.
	Limit int64
	// KeepUntil is until when they are counted: past the last time at which it can be renewed.
	KeepUntil time.Time
}

// row returns the intent as a row without seq and MAC.
func (l *Ledger) row(in Intent) (*row, error) {
	a := in.Verified.Message()
	if a == nil || in.Request == nil || len(in.TBS) == 0 || len(in.Contents) == 0 || len(in.Authority) == 0 || len(in.Serial) != 40 || in.At.IsZero() || in.Line.LoginAt.IsZero() {
		return nil, errors.New("recording an intent: it needs a verified assertion, a request, TBS bytes, an authority, contents, a time, the time of login and a serial number of 40 digits")
	}
	sealed, err := proto.Marshal(in.Verified.Sealed())
	if err != nil {
		return nil, fmt.Errorf("encoding the sealed assertion: %w", err)
	}
	r := &row{
		serial: in.Serial, state: signerv1.EntryState_ENTRY_STATE_INTENT,
		assertionID: a.GetAssertionId(), requestKey: requestKey(a, in),
		sealed: sealed, csr: in.Request.DER(), tbs: in.TBS,
		owner: l.owner, leaseUntil: store.Micros(l.now().Add(Lease)),
		label: a.GetLabel(), realm: a.GetIdentity().GetRealm(), principal: a.GetIdentity().GetPrincipal(),
		subject: in.Subject, validatorKey: in.Verified.KeyID(), createdAt: store.Micros(in.At),
		notBefore: store.Micros(in.NotBefore), notAfter: store.Micros(in.NotAfter),
	}
	if s := a.GetSpend(); len(s.GetIds()) > 0 {
		r.spendKey = spendKey(spendIDs(s))
		r.keepUntil, r.useLimit.Int64 = store.Micros(s.GetKeepUntil().AsTime()), int64(s.GetLimit())
		if in.Successors != nil {
			r.keepUntil, r.useLimit.Int64 = store.Micros(in.Successors.KeepUntil), in.Successors.Limit
		}
	}
	r.authority = sql.NullString{String: hex.EncodeToString(in.Authority), Valid: true}
	r.useLimit.Valid = true
	in.Line.into(r)
	return r, nil
}

// requestKey is what makes two requests the same: who asks, for which operation and label, with
// which key, for which names, on the strength of which certificate, and what the certificate would say: after a change of
// the profile, the token or the authority it is another one. Not the CSR's own hash: a
// client that asks again signs its request anew.
func requestKey(a *assertionv1.Assertion, in Intent) []byte {
	h := sha256.New()
	id, r := a.GetIdentity(), in.Request
	writeField(h, []byte("estuary/request-key/v2"))
	writeField(h, []byte(id.GetKind().String()))
	writeField(h, []byte(id.GetRealm()))
	writeField(h, []byte(id.GetPrincipal()))
	writeField(h, []byte(a.GetOperation().String()))
	writeField(h, []byte(a.GetLabel()))
	writeField(h, r.SPKI())
	writeField(h, r.RawSubject())
	writeField(h, binary.BigEndian.AppendUint64(nil, uint64(len(in.Contents))))
	for _, part := range in.Contents {
		writeField(h, part)
	}
	names := make([]string, 0, len(r.Names()))
	for _, n := range r.Names() {
		names = append(names, n.String())
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		writeField(h, []byte(n))
	}
	if c := a.GetPresentedCertificate(); c != nil {
		writeField(h, []byte("presented certificate"))
		writeField(h, c.GetSha256())
	}
	return h.Sum(nil)
}

// writeField adds a value that is there to h: 1, its length in 8 octets, itself.
func writeField(h hash.Hash, b []byte) {
	h.Write(binary.BigEndian.AppendUint64([]byte{1}, uint64(len(b))))
	h.Write(b)
}
