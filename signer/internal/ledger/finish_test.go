package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

func begin(t *testing.T, l *lab, a ask) (ledger.Reservation, ledger.Intent) {
	t.Helper()
	in := l.intent(a)
	begun, err := l.ledger.Begin(t.Context(), in)
	if err != nil || begun.Repeat != nil {
		t.Fatalf("repeat %v, error %v", begun.Repeat != nil, err)
	}
	return begun.Reservation, in
}

func TestFailedGivesBack(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		v, in := begin(t, l, a)
		if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); err != nil {
			t.Fatal(err)
		}
		if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); err != nil {
			t.Fatal(err)
		}
		if used, err := l.ledger.CountUses(t.Context(), [][]byte{[]byte(a.token)}); err != nil || used[0] != 0 {
			t.Errorf("used %v times, error %v", used, err)
		}
		if _, err := l.ledger.Issued(t.Context(), v, certificate(in)); !errors.Is(err, fault.Unavailable) || fault.RetryAfter(err) == 0 {
			t.Errorf("ending it twice: %v", err)
		}
		if n := strings.Count(l.told(), `"event":"certificate.failed","outcome":"error"`); n != 1 {
			t.Errorf("%d failures audited, not 1", n)
		}
		// The assertion is used although the token is not: for the same request that is nobody's
		// fault, for another one it is ours.
		same := a
		same.id = in.Verified.Message().GetAssertionId()
		l.mustRefuse(same, fault.Unavailable)
		other := same
		other.key = newKey(t)
		l.mustRefuse(other, fault.Internal)
		l.mustIssue(a)

		otp := l.ask()
		otp.method, otp.token, otp.principal = assertionv1.Method_METHOD_LDAP_OTP, "code", "jane"
		v, _ = begin(t, l, otp)
		if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); err != nil {
			t.Fatal(err)
		}
		l.mustRefuse(otp, fault.Unauthenticated)
	})
}

// Of two signers that finish the same intent, one wins and the other returns its result.
func TestLoser(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		late, in := begin(t, l, l.ask())
		l.pass(ledger.Lease + time.Second)
		adopted, err := l.open(1).Adopt(t.Context(), false)
		if err != nil || len(adopted) != 1 {
			t.Fatalf("%d adopted, %v", len(adopted), err)
		}
		other := adopted[0].Reservation(in.Record)
		if _, err := l.ledger.Issued(t.Context(), late, []byte("late")); !errors.Is(err, fault.Unavailable) || fault.RetryAfter(err) == 0 {
			t.Errorf("while the other is at it: %v", err)
		}
		if err := l.ledger.Failed(t.Context(), late, errors.New("late")); err != nil {
			t.Error(err)
		}
		if der, err := l.ledger.Issued(t.Context(), other, certificate(in)); err != nil || !bytes.Equal(der, certificate(in)) {
			t.Fatalf("the winner got %q, %v", der, err)
		}
		for _, v := range []ledger.Reservation{late, other} {
			if der, err := l.ledger.Issued(t.Context(), v, []byte("late")); err != nil || !bytes.Equal(der, certificate(in)) {
				t.Errorf("the loser got %q, %v", der, err)
			}
		}
		if n := strings.Count(l.told(), "certificate.issued"); n != 1 {
			t.Errorf("%d certificates audited, not 1", n)
		}
	})
}

// alter changes one column of the only row, and returns what puts it back.
func alter(t *testing.T, l *lab, column string) (restore func()) {
	t.Helper()
	var old any
	err := l.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, "SELECT "+column+" FROM entry").Scan(&old)
	})
	if err != nil {
		t.Fatal(err)
	}
	var changed any
	switch v := old.(type) {
	case int64:
		changed = v + 1
	case string:
		if v == "" {
			changed = "forged"
			break
		}
		changed = v[:len(v)-1] + string(v[len(v)-1]^1)
	case []byte:
		b := bytes.Clone(v)
		b[len(b)-1] ^= 1
		old, changed = bytes.Clone(v), b
	case nil:
		changed = int64(1)
		if column == "certificate" {
			changed = []byte("forged")
		}
	default:
		t.Fatalf("%s has the type %T", column, old)
	}
	l.exec("UPDATE entry SET "+column+" = $1", changed)
	return func() { l.exec("UPDATE entry SET "+column+" = $1", old) }
}

// By these columns a repeat is found: altered, they hide the row, and the credential stays
// used up.
var lookup = map[string]bool{"request_key": true, "state": true, "revoked_at": true}

func TestAlteredRowGivesNothing(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		der := l.mustIssue(a)
		for _, column := range ledger.Columns() {
			t.Log(column)
			before := len(l.told())
			kind := fault.Internal
			if lookup[column] {
				kind = fault.Unauthenticated
			}
			restore := alter(t, l, column)
			l.mustRefuse(a, kind)
			if kind == fault.Internal && !strings.Contains(l.told()[before:], "ledger.altered") {
				t.Errorf("%s altered, and nobody is told", column)
			}
			restore()
			l.mustRepeat(a, der)
		}
		if n := l.entries(); n != 1 {
			t.Errorf("%d entries, not 1", n)
		}
	})
}

// Where one value ends and the next begins is under the MAC too.
func TestShiftedColumns(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		der := l.mustIssue(a)
		l.exec("UPDATE entry SET label = 'deviceD', realm = 'EVICES'")
		l.mustRefuse(a, fault.Internal)
		l.exec("UPDATE entry SET label = 'device', realm = 'DEVICES'")
		l.mustRepeat(a, der)
	})
}

func TestAlteredIntentIsNotFinished(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		v, in := begin(t, l, l.ask())
		for _, column := range ledger.Columns() {
			if column == "serial" {
				continue // it finds no row then: below
			}
			restore := alter(t, l, column)
			if _, err := l.ledger.Issued(t.Context(), v, certificate(in)); fault.KindOf(err) != fault.Internal {
				t.Errorf("%s altered: issued answers %v", column, err)
			}
			if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); fault.KindOf(err) != fault.Internal {
				t.Errorf("%s altered: failed answers %v", column, err)
			}
			restore()
		}
		restore := alter(t, l, "serial")
		if _, err := l.ledger.Issued(t.Context(), v, certificate(in)); err == nil {
			t.Error("a row that is not there was finished")
		}
		restore()
		if n := l.number("SELECT count(*) FROM entry WHERE state = 1 AND certificate IS NULL"); n != 1 {
			t.Error("the altered row was changed")
		}
		if _, err := l.ledger.Issued(t.Context(), v, certificate(in)); err != nil {
			t.Error(err)
		}
	})
}

// A row written under another key is nobody's word.
func TestOtherMACKey(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		l.mustIssue(a)
		l.ledger = l.open(2)
		l.mustRefuse(a, fault.Internal)
	})
}

func TestPageOfTheLedger(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		var serials []string
		for i := range 5 {
			a := l.ask()
			a.token, a.principal = fmt.Sprint("t", i), fmt.Sprint("pump-", i)
			v, in := begin(t, l, a)
			serials = append(serials, in.Serial)
			if i == 3 {
				continue
			}
			if _, err := l.ledger.Issued(t.Context(), v, certificate(in)); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for after, pages := int64(0), 0; ; pages++ {
			page, next, err := l.ledger.List(t.Context(), after, 2, ledger.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				got = append(got, e.GetSerial())
			}
			if after = next; next == 0 {
				if pages != 2 {
					t.Errorf("%d full pages before the last, not 2", pages)
				}
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(serials, " ") {
			t.Errorf("listed %v, not %v", got, serials)
		}
		entry, der, err := l.ledger.Get(t.Context(), serials[1])
		if err != nil || len(der) == 0 || entry.GetPrincipal() != "pump-1" || entry.GetState().String() != "ENTRY_STATE_ISSUED" ||
			!entry.GetCreatedAt().AsTime().Equal(start) || !entry.GetNotBefore().AsTime().Equal(start) {
			t.Errorf("got %v, %d octets, %v", entry, len(der), err)
		}
		if _, der, err = l.ledger.Get(t.Context(), serials[3]); err != nil || der != nil {
			t.Errorf("an intent has a certificate of %d octets, %v", len(der), err)
		}
		if _, _, err := l.ledger.Get(t.Context(), "00"); !errors.Is(err, fault.NotFound) {
			t.Errorf("an unknown serial number answers %v", err)
		}
	})
}
