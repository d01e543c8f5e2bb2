package issue_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/inspect"
	"github.com/estuary-pki/estuary/signer/internal/key"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// inspect inspects the lab's ledger.
func (l *lab) inspect() inspect.Report {
	l.t.Helper()
	reader, err := ledger.NewReader(l.db, secret.New(make([]byte, ledger.MACKeySize)))
	if err != nil {
		l.t.Fatal(err)
	}
	report, err := inspect.Run(l.t.Context(), inspect.Config{
		Ledger: reader, Opener: l.opener, Authorities: []*x509.Certificate{l.ca.Certificate}, Now: func() time.Time { return l.now },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return report
}

// written is a ledger of four rows: issued with one use of three, issued with another,
// given up, issued with a credential of its own.
func written(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, key.P256, 0)
	first, k := l.askFor(newKey(t)), newKey(t)
	l.mustIssue(first)
	if _, err := l.again(first, k); err == nil {
		t.Fatal("a token of one use was used twice")
	}
	l.mustIssue(l.ask())
	l.key.sign = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no session") }
	if _, err := l.issue(t.Context(), gateway, l.ask()); err == nil {
		t.Fatal("issued without a key")
	}
	l.key.sign = nil
	l.mustIssue(l.ask())
	return l
}

// What the signer writes is found good, long after the assertions and the keys have ended.
func TestInspection(t *testing.T) {
	l := written(t)
	l.now = l.public.NotAfter.AddDate(1, 0, 0)
	report := l.inspect()
	if report.Issued != 3 || report.Failed != 1 || report.Open != 0 || len(report.Problems) != 0 {
		t.Errorf("%+v", report)
	}
}

// What was issued before the authority had its key of today, and under a key that may say
// less today, was good then.
func TestInspectionOfThePast(t *testing.T) {
	l := written(t)
	earlier := l.ca.Certificate
	l.makeCA(key.P256)
	reader, err := ledger.NewReader(l.db, secret.New(make([]byte, ledger.MACKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	report, err := inspect.Run(t.Context(), inspect.Config{
		Ledger: reader, Opener: l.opener, Authorities: []*x509.Certificate{l.ca.Certificate, earlier},
	})
	if err != nil || report.Found != 0 || report.Issued != 3 {
		t.Errorf("%+v, %v", report, err)
	}
}

// Everything that somebody with the database can change is found, and named by its row.
func TestInspectionFinds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *lab)
		seq    int64
		says   string
	}{
		"a row is gone":      {func(l *lab) { l.exec("DELETE FROM entry WHERE seq = 2") }, 2, "row 2 is missing"},
		"the newest is gone": {func(l *lab) { l.exec("DELETE FROM entry WHERE seq = 4") }, 4, "row 4 is missing"},
		"set back": {func(l *lab) {
			l.exec("DELETE FROM entry WHERE seq = 4")
			l.exec("UPDATE counter SET value = 3 WHERE name = 'entry'")
			l.exec("DELETE FROM spend")
		}, 0, "and the ledger has no row of it"},
		"the count is less": {func(l *lab) { l.exec("UPDATE counter SET value = 2 WHERE name = 'entry'") }, 4, "set back"},
		"renumbered": {func(l *lab) {
			l.exec("DELETE FROM entry WHERE seq = 2")
			l.exec("UPDATE entry SET seq = seq - 1 WHERE seq = 3")
			l.exec("UPDATE entry SET seq = seq - 1 WHERE seq = 4")
		}, 2, "was altered"},
		"state":         {func(l *lab) { l.exec("UPDATE entry SET state = 3 WHERE seq = 1") }, 1, "was altered"},
		"certificate":   {func(l *lab) { l.exec("UPDATE entry SET certificate = tbs WHERE seq = 1") }, 1, "was altered"},
		"the use count": {func(l *lab) { l.exec("UPDATE spend SET used = 0") }, 0, "was altered"},
		"more uses than allowed": {func(l *lab) {
			// Somebody takes the row and the count away, has the token used again, and puts
			// the row back: every row is genuine.
			k := newKey(l.t)
			first := l.askFor(k)
			l.mustIssue(first)
			l.exec("CREATE TABLE aside AS SELECT * FROM entry")
			l.exec("DELETE FROM entry")
			l.exec("DELETE FROM spend")
			if got, err := l.again(first, newKey(l.t)); err != nil || got.Repeated {
				l.t.Error(err)
			}
			l.exec("INSERT INTO entry SELECT * FROM aside")
		}, 6, "row 6 is use 2 of credential"},
		"from the future": {func(l *lab) { l.now = l.now.Add(-time.Hour) }, 1, "dated in the future"},
		"no audit":        {func(l *lab) { l.exec("DELETE FROM audit_record WHERE record LIKE '%certificate.issued%'") }, 0, "without a record"},
		"a withdrawn key": {func(l *lab) {
			if err := l.opener.SetKeys(nil); err != nil {
				l.t.Error(err)
			}
		}, 1, "no validator key has the id"},
		"another realm": {func(l *lab) {
			p := l.public
			p.Realms = []string{"ELSEWHERE"}
			if err := l.opener.SetKeys([]assertion.PublicKey{p}); err != nil {
				l.t.Error(err)
			}
		}, 1, "may not speak for realm"},
		"another authority": {func(l *lab) { l.makeCA(key.P256) }, 1, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			l := written(t)
			c.change(l)
			report := l.inspect()
			if len(report.Problems) == 0 {
				t.Fatal("nothing found")
			}
			var said []string
			for _, p := range report.Problems {
				said = append(said, fmt.Sprint(p.Seq, " ", p.What))
			}
			if first := report.Problems[0]; first.Seq != c.seq || !strings.Contains(strings.Join(said, "\n"), c.says) {
				t.Errorf("found, first at %d:\n%s", first.Seq, strings.Join(said, "\n"))
			}
		})
	}
}

// A row with a good MAC is believed no more than another: whoever has that key too still
// cannot make a certificate that no validator vouched for.
func TestInspectionBelievesNoMAC(t *testing.T) {
	for name, c := range map[string]struct {
		forge func(l *lab, in *ledger.Intent, der *[]byte)
		says  string
	}{
		"nothing": {func(*lab, *ledger.Intent, *[]byte) {}, ""},
		"another request": {func(l *lab, in *ledger.Intent, _ *[]byte) {
			in.Request = parsed(l.t, request(l.t, newKey(l.t)))
		}, "made for another"},
		"another time":   {func(l *lab, in *ledger.Intent, _ *[]byte) { in.At = l.now.AddDate(0, 0, 1) }, "it ended"},
		"another serial": {func(_ *lab, in *ledger.Intent, _ *[]byte) { in.Serial = strings.Repeat("4", 40) }, "another serial number"},
		"other contents": {func(_ *lab, in *ledger.Intent, _ *[]byte) { in.TBS = append(bytes.Clone(in.TBS), 0) }, "does not say what was recorded"},
		"another authority": {func(l *lab, _ *ledger.Intent, der *[]byte) {
			*der = bytes.Clone(*der)
			(*der)[len(*der)-1] ^= 1
		}, "the certificate's signature"},
		"another key": {func(l *lab, in *ledger.Intent, der *[]byte) {
			c := l.mustIssue(l.ask())
			in.Serial, in.TBS, *der = fmt.Sprintf("%040x", c.SerialNumber), c.RawTBSCertificate, c.Raw
			l.exec("DELETE FROM entry")
			l.exec("UPDATE counter SET value = 0")
			l.exec("DELETE FROM audit_record")
		}, "for another key"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, key.P256, 0)
			r := l.ask()
			genuine := l.mustIssue(r)
			// The same once more, in a ledger that is empty again, as somebody would write it.
			for _, table := range []string{"entry", "counter", "spend", "audit_record", "audit_head"} {
				l.exec("DELETE FROM " + table)
			}
			l.restart("signer-1") // the old process would know that the audit was set back
			request := parsed(t, r.GetCsrDer())
			verified, err := l.opener.Open(r.GetAssertion(), assertion.Expect{
				Gateway: gateway, CSRSHA256: request.SHA256(), SPKISHA256: request.SPKISHA256(),
			})
			if err != nil {
				t.Fatal(err)
			}
			der := genuine.Raw
			in := ledger.Intent{
				Serial: fmt.Sprintf("%040x", genuine.SerialNumber), Verified: verified, Request: request, TBS: genuine.RawTBSCertificate,
				Authority: l.ca.Certificate.SubjectKeyId, Contents: [][]byte{[]byte("x")}, NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter, At: l.now,
				Line: ledger.LineOf(verified.Message()),
			}
			c.forge(l, &in, &der)
			begun, err := l.ledger.Begin(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.ledger.Issued(t.Context(), begun.Reservation, der); err != nil {
				t.Fatal(err)
			}
			problems := fmt.Sprint(l.inspect().Problems)
			if c.says == "" && problems != "[]" || !strings.Contains(problems, c.says) {
				t.Errorf("found %s", problems)
			}
		})
	}
}

func parsed(t testing.TB, der []byte) *csr.Request {
	t.Helper()
	r, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (l *lab) mustIssue(r *signerv1.IssueRequest) *x509.Certificate {
	l.t.Helper()
	got, err := l.issue(l.t.Context(), gateway, r)
	if err != nil || got.Repeated {
		l.t.Fatalf("repeated %v, error %v", got.Repeated, err)
	}
	c, err := x509.ParseCertificate(got.DER)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}
