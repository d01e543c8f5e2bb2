package serve_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/serve"
)

func (l *lab) list() (*x509.RevocationList, time.Time, error) {
	l.t.Helper()
	r, err := signerv1.NewAuthorityClient(l.gateway).GetCRL(l.t.Context(), &signerv1.GetCRLRequest{})
	if err != nil {
		return nil, time.Time{}, err
	}
	return must[*x509.RevocationList](l.t)(x509.ParseRevocationList(r.GetCrlDer())), r.GetNextUpdate().AsTime(), nil
}

func TestRevocationList(t *testing.T) {
	l := newLab(t)
	mustList := func(number int64, entries int) {
		t.Helper()
		list, next, err := l.list()
		if err != nil {
			t.Fatal(err)
		}
		if err := list.CheckSignatureFrom(l.ca.Certificate); err != nil {
			t.Error(err)
		}
		if list.Number.Int64() != number || len(list.RevokedCertificateEntries) != entries || !next.Equal(list.NextUpdate) ||
			!list.ThisUpdate.Before(l.clock()) || !list.NextUpdate.After(l.clock()) {
			t.Errorf("list %v with %d entries from %v to %v, told %v", list.Number, len(list.RevokedCertificateEntries), list.ThisUpdate, list.NextUpdate, next)
		}
	}
	mustList(1, 0)
	issued := must[*signerv1.IssueResponse](t)(signerv1.NewIssuerClient(l.gateway).Issue(t.Context(), l.ask("pump-1")))
	serial := must[*x509.Certificate](t)(x509.ParseCertificate(issued.GetCertificateDer())).SerialNumber
	l.revoke(serial)
	l.pass(11 * time.Hour)
	mustList(1, 0)
	l.pass(2 * time.Hour) // beyond the half of its life
	mustList(2, 1)

	l.pass(13 * time.Hour)
	l.key.set(errors.New("no session"))
	mustList(2, 1) // no new one can be made, the old one has not ended
	l.pass(12 * time.Hour)
	if _, _, err := l.list(); !errors.Is(err, fault.Unavailable) {
		t.Errorf("without a key, behind the end: %v", err)
	}
	l.key.set(nil)
	mustList(5, 1) // two numbers were taken in vain
}

func (l *lab) revoke(serial *big.Int) {
	l.t.Helper()
	err := l.db.Write(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE entry SET revoked_at = $1, revocation_reason = 1 WHERE serial = $2`,
			store.Micros(l.clock()), fmt.Sprintf("%x", serial))
		if n != 1 {
			return errors.Join(err, errors.New("there is no such certificate"))
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// However many ask at once, one list is made.
func TestOneListForAll(t *testing.T) {
	l := newLab(t)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if list, _, err := l.list(); err != nil || list.Number.Int64() != 1 {
				t.Errorf("error %v", err)
			}
		})
	}
	group.Wait()
	if n := l.key.uses(); n != 1 {
		t.Errorf("the key was used %d times", n)
	}
}

func TestReadiness(t *testing.T) {
	l := newLab(t)
	for range 2 {
		if err := errors.Join(l.server.CheckKey(t.Context()), l.server.CheckLedger(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.key.uses(); n != 1 {
		t.Errorf("the key was used %d times within ten seconds, not once", n)
	}
	l.pass(11 * time.Second)
	l.key.set(errors.New("no session"))
	if l.server.CheckKey(t.Context()) == nil {
		t.Error("a key without a session is ready")
	}
	l.key.set(nil)
	if err := l.server.CheckKey(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	if l.server.CheckLedger(t.Context()) == nil {
		t.Error("a closed ledger is ready")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := serve.New(serve.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

func (l *lab) revokeByAdmin(serial string, reason signerv1.RevocationReason) error {
	l.t.Helper()
	_, err := signerv1.NewLedgerAdminClient(l.admin).RevokeCertificate(l.t.Context(), &signerv1.RevokeCertificateRequest{
		Serial: serial, Reason: reason, RevokedBy: "ada",
	})
	return err
}

// TestRevokedIsListedAtOnce: the next list that is asked for has it, under the next number.
func TestRevokedIsListedAtOnce(t *testing.T) {
	l := newLab(t)
	issued := must[*signerv1.IssueResponse](t)(signerv1.NewIssuerClient(l.gateway).Issue(t.Context(), l.ask("pump-1")))
	serial := fmt.Sprintf("%040X", must[*x509.Certificate](t)(x509.ParseCertificate(issued.GetCertificateDer())).SerialNumber)
	const hold, release = signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD, signerv1.RevocationReason_REVOCATION_REASON_REMOVE_FROM_CRL
	for i, step := range []struct {
		reason  signerv1.RevocationReason
		entries int
	}{{hold, 1}, {release, 0}, {signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE, 1}} {
		first, _, err := l.list()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.revokeByAdmin(serial, step.reason); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			list, _, err := l.list()
			if err != nil || len(list.RevokedCertificateEntries) != step.entries || list.Number.Cmp(first.Number) <= 0 {
				t.Fatalf("step %d: %v, error %v", i, list, err)
			}
		}
	}
	for name, err := range map[string]error{
		"no certificate": l.revokeByAdmin("00", hold),
		"no reason":      l.revokeByAdmin(serial, 2),
	} {
		if err == nil {
			t.Errorf("%s: revoked", name)
		}
	}
	_, err := signerv1.NewLedgerAdminClient(l.gateway).RevokeCertificate(t.Context(), &signerv1.RevokeCertificateRequest{Serial: serial, Reason: hold, RevokedBy: "x"})
	if err == nil {
		t.Error("a gateway may revoke")
	}
}

// TestLongList: of 100,000 certificates, made within seconds, fetched in parts.
func TestLongList(t *testing.T) {
	l := newLab(t)
	const n = 100_000
	err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO entry (seq, serial, state, assertion_id, request_key, keep_until, sealed, csr, tbs, certificate, owner,
 lease_until, label, realm, principal, subject, validator_key, created_at, not_before, not_after, revoked_at, revocation_reason, mac)
 WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < `+fmt.Sprint(n)+`)
 SELECT 1000 + i, printf('1%039x', i * 7919), 2, CAST(i AS BLOB), x'00', 0, x'00', x'00', x'00', x'00', '', 0, 'device', 'R', 'p', 's', 'k', 0, 0, $1, $2, 1, x'00' FROM c`,
			store.Micros(l.clock().Add(time.Hour)), store.Micros(l.clock()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	client := signerv1.NewAuthorityClient(l.gateway)
	var der []byte
	var number int64
	parts := 0
	for size := uint64(1); uint64(len(der)) < size; parts++ {
		r, err := client.GetCRL(t.Context(), &signerv1.GetCRLRequest{Offset: uint64(len(der)), Number: number})
		if err != nil {
			t.Fatal(err)
		}
		der, size, number = append(der, r.GetCrlDer()...), r.GetSize(), r.GetNumber()
	}
	list := must[*x509.RevocationList](t)(x509.ParseRevocationList(der))
	if len(list.RevokedCertificateEntries) != n || list.Number.Int64() != number || parts < 10 {
		t.Errorf("%d entries in %d parts, number %v told %d", len(list.RevokedCertificateEntries), parts, list.Number, number)
	}
	t.Logf("%d entries, %d octets in %d parts, in %v", n, len(der), parts, time.Since(began))
	for name, r := range map[string]*signerv1.GetCRLRequest{
		"another list":   {Offset: 10, Number: number + 1},
		"behind the end": {Offset: uint64(len(der)), Number: number},
	} {
		if _, err := client.GetCRL(t.Context(), r); err == nil {
			t.Errorf("%s: a part", name)
		}
	}
}
