package ledger_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// lab is a ledger with a validator beside it.
type lab struct {
	t        *testing.T
	db       *store.DB
	ledger   *ledger.Ledger
	key      assertion.SigningKey
	opener   *assertion.Opener
	audit    *audit.Stream
	budgets  []ledger.Budget
	instance string

	mu     sync.Mutex // guards now and stream
	time   time.Time
	stream bytes.Buffer
}

func newLab(t *testing.T, db *store.DB) *lab {
	t.Helper()
	l := &lab{t: t, db: db, time: start, instance: "signer-1"}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if l.key, err = assertion.NewSigningKey("v1", private); err != nil {
		t.Fatal(err)
	}
	l.opener, err = assertion.NewOpener(assertion.OpenerConfig{Audience: "ca", Now: l.now, Keys: []assertion.PublicKey{{
		ID: "v1", Issuer: "validator.test", Key: l.key.Public(), NotAfter: start.Add(1000 * time.Hour),
		Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN, assertionv1.Method_METHOD_LDAP_OTP, assertionv1.Method_METHOD_LDAP_PASSWORD, assertionv1.Method_METHOD_CERTIFICATE},
		Realms:  []string{"DEVICES"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	l.audit = audit.NewStream(l)
	l.ledger = l.open(1)
	return l
}

// open returns a ledger on the lab's store under the MAC key of 32 octets k.
func (l *lab) open(k byte) *ledger.Ledger {
	l.t.Helper()
	made, err := ledger.New(l.t.Context(), ledger.Config{
		Store: l.db, MACKey: secret.New(bytes.Repeat([]byte{k}, ledger.MACKeySize)),
		Audit: l.audit, Log: slog.New(slog.DiscardHandler), Instance: l.instance, Now: l.now,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return made
}

// Write takes the audit stream.
func (l *lab) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream.Write(p)
}

func (l *lab) told() string {
	if err := audittest.Flush(l.audit); err != nil {
		l.t.Error(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream.String()
}

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.time
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.time = l.time.Add(d)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ask is a request for a certificate with a token.
// everything is what the tests' authority issues.
var everything = ledger.Scope{Authority: []byte("authority"), Unnamed: true}

type ask struct {
	key       *ecdsa.PrivateKey
	principal string
	label     string
	token     string
	limit     uint32
	names     []string
	method    assertionv1.Method
	id        []byte // assertion id; nil draws one
	keep      time.Duration
	life      time.Duration
	contents  string
}

func (l *lab) ask() ask {
	return ask{
		key: newKey(l.t), principal: "pump-7", label: "device", token: "t1", limit: 1,
		method: assertionv1.Method_METHOD_TOKEN, keep: time.Hour, life: 90 * 24 * time.Hour, contents: "usage",
	}
}

// intent seals an assertion, opens it and makes what Begin takes.
func (l *lab) intent(a ask) ledger.Intent {
	l.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: a.principal}, DNSNames: a.names,
	}, a.key)
	if err != nil {
		l.t.Fatal(err)
	}
	request, err := csr.Parse(der)
	if err != nil {
		l.t.Fatal(err)
	}
	serial := make([]byte, 20)
	_, _ = rand.Read(serial)
	verified := l.verified(a, request)
	return ledger.Intent{
		Serial: hex.EncodeToString(serial), Verified: verified, Request: request, Line: ledger.LineOf(verified.Message()),
		TBS: append([]byte("tbs "), serial...), Authority: everything.Authority, Contents: [][]byte{[]byte(a.contents)}, Subject: "CN=" + a.principal,
		NotBefore: l.now(), NotAfter: l.now().Add(a.life), At: l.now(), Budgets: l.budgets,
		Record: audit.Record{Actor: "gateway.test", RequestID: "r1", Identity: a.principal + "@DEVICES"},
	}
}

func (l *lab) verified(a ask, request *csr.Request) assertion.Verified {
	l.t.Helper()
	if a.id == nil {
		a.id = make([]byte, 16)
		_, _ = rand.Read(a.id)
	}
	want := assertion.Expect{Gateway: "gateway.test", CSRSHA256: request.SHA256(), SPKISHA256: request.SPKISHA256()}
	msg := &assertionv1.Assertion{
		Version: 1, AssertionId: a.id, Issuer: "validator.test", Audience: "ca", Gateway: "gateway.test",
		IssuedAt: timestamppb.New(l.now()), NotAfter: timestamppb.New(l.now().Add(time.Minute)),
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: a.label,
		CsrSha256: want.CSRSHA256[:], SpkiSha256: want.SPKISHA256[:],
		Identity: &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "DEVICES", Principal: a.principal},
		Authentication: &assertionv1.Authentication{
			Method: a.method, VerifiedAt: timestamppb.New(l.now()), ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
		},
	}
	if a.method == assertionv1.Method_METHOD_TOKEN {
		msg.Token = &assertionv1.EnrolmentToken{Id: a.token}
	}
	if a.method == assertionv1.Method_METHOD_CERTIFICATE {
		sum := make([]byte, 32)
		msg.PresentedCertificate = &assertionv1.PresentedCertificate{Sha256: sum, AnchorSha256: sum, Issuer: sum, Serial: sum}
	}
	if a.method != assertionv1.Method_METHOD_LDAP_PASSWORD {
		msg.Spend = &assertionv1.Spend{Ids: [][]byte{[]byte(a.token)}, Limit: a.limit, KeepUntil: timestamppb.New(l.now().Add(a.keep))}
	}
	sealed, err := assertion.Seal(msg, l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	v, err := l.opener.Open(sealed, want)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

// certificate stands for what is signed: the ledger does not look into it.
func certificate(in ledger.Intent) []byte { return append([]byte("certificate of "), in.TBS...) }

// issue does what issue does: begin, sign, end; what is under way is asked for again.
func (l *lab) issue(a ask) (der []byte, repeated bool, err error) {
	for {
		in := l.intent(a)
		begun, err := l.ledger.Begin(l.t.Context(), in)
		switch {
		case fault.KindOf(err) == fault.Unavailable && fault.RetryAfter(err) > 0:
			time.Sleep(time.Millisecond)
			continue
		case err != nil || begun.Repeat != nil:
			return begun.Repeat, begun.Repeat != nil, err
		}
		der, err := l.ledger.Issued(l.t.Context(), begun.Reservation, certificate(in))
		return der, false, err
	}
}

func (l *lab) mustIssue(a ask) []byte {
	l.t.Helper()
	der, repeated, err := l.issue(a)
	if err != nil || repeated {
		l.t.Fatalf("repeated %v, error %v: a new certificate was expected", repeated, err)
	}
	return der
}

func (l *lab) mustRepeat(a ask, want []byte) {
	l.t.Helper()
	der, repeated, err := l.issue(a)
	if err != nil || !repeated || !bytes.Equal(der, want) {
		l.t.Fatalf("repeated %v, error %v, same %v: the certificate of before was expected", repeated, err, bytes.Equal(der, want))
	}
}

func (l *lab) mustRefuse(a ask, kind fault.Kind) {
	l.t.Helper()
	begun, err := l.ledger.Begin(l.t.Context(), l.intent(a))
	if fault.KindOf(err) != kind || begun.Repeat != nil {
		l.t.Fatalf("answered %v: %v was expected", err, kind)
	}
	if kind == fault.Unauthenticated && fault.Public(err) != ledger.Refused {
		l.t.Fatalf("refused as %q, unlike other credentials", fault.Public(err))
	}
}

// number returns the result of a query for one number.
func (l *lab) number(query string, args ...any) (n int64) {
	l.t.Helper()
	err := l.db.Read(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, query, args...).Scan(&n)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func (l *lab) entries() int64 { return l.number("SELECT count(*) FROM entry") }

func (l *lab) exec(query string, args ...any) {
	l.t.Helper()
	err := l.db.Write(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		n, err := tx.Exec(ctx, query, args...)
		if err == nil && n == 0 {
			return fmt.Errorf("%s changed nothing", query)
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}
