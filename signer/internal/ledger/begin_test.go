package ledger_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// each runs f with a lab on either engine.
func each(t *testing.T, f func(t *testing.T, l *lab)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func() *store.DB) { f(t, newLab(t, open())) })
}

// crowd lets 64 clients ask at once and returns what they got.
func crowd(l *lab, a func(i int) ask) (fresh, repeated, refused int, certificates map[string]bool) {
	var mu sync.Mutex
	var group sync.WaitGroup
	certificates = map[string]bool{}
	for i := range 64 {
		a := a(i)
		group.Go(func() {
			der, again, err := l.issue(a)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case fault.KindOf(err) == fault.Unauthenticated:
				refused++
				return
			case err != nil:
				l.t.Error(err)
				return
			case again:
				repeated++
			default:
				fresh++
			}
			certificates[string(der)] = true
		})
	}
	group.Wait()
	return fresh, repeated, refused, certificates
}

func TestOneUseOneCertificate(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		for _, limit := range []uint32{1, 3} {
			fresh, repeated, refused, got := crowd(l, func(int) ask {
				a := l.ask()
				a.token, a.limit = "token:"+string('a'+rune(limit)), limit
				return a
			})
			if fresh != int(limit) || repeated != 0 || refused != 64-int(limit) || len(got) != int(limit) {
				t.Errorf("limit %d: %d issued, %d repeated, %d refused", limit, fresh, repeated, refused)
			}
		}
		if n := l.entries(); n != 4 {
			t.Errorf("%d entries, not 4", n)
		}
	})
}

// The same request over and over is one request, however many uses the token has.
func TestOneRequestOneEntry(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		same := l.ask()
		same.limit = 5
		fresh, repeated, refused, got := crowd(l, func(int) ask { return same })
		if fresh != 1 || repeated != 63 || refused != 0 || len(got) != 1 {
			t.Errorf("%d issued, %d repeated, %d refused, %d different", fresh, repeated, refused, len(got))
		}
		// A credential that is not used up takes the same care.
		same = l.ask()
		same.method, same.principal = assertionv1.Method_METHOD_LDAP_PASSWORD, "jane"
		fresh, repeated, refused, got = crowd(l, func(int) ask { return same })
		if fresh != 1 || repeated != 63 || refused != 0 || len(got) != 1 {
			t.Errorf("without a spend: %d issued, %d repeated, %d refused, %d different", fresh, repeated, refused, len(got))
		}
		if n := l.entries(); n != 2 {
			t.Errorf("%d entries, not 2", n)
		}
	})
}

func TestRepeat(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.names = []string{"a.test", "b.test"}
		first := l.mustIssue(a)
		l.mustRepeat(a, first)
		turned := a
		turned.names = []string{"b.test", "a.test"}
		l.mustRepeat(turned, first)

		// Another credential for the same request within the window spends nothing.
		other := a
		other.token = "t2"
		l.mustRepeat(other, first)
		if n := l.number("SELECT count(*) FROM spend"); n != 1 {
			t.Errorf("%d credentials were used, not 1", n)
		}

		for name, change := range map[string]func(*ask){
			"key":       func(a *ask) { a.key = newKey(t) },
			"label":     func(a *ask) { a.label = "other" },
			"names":     func(a *ask) { a.names = a.names[:1] },
			"principal": func(a *ask) { a.principal = "pump-8" },
			"contents":  func(a *ask) { a.contents = "more usages" },
		} {
			t.Log("another " + name)
			changed := a
			change(&changed)
			l.mustRefuse(changed, fault.Unauthenticated)
		}

		l.pass(6 * time.Minute)
		l.mustRepeat(a, first)       // the token's count is kept for an hour
		second := l.mustIssue(other) // the window is over: a use of its own
		l.mustRepeat(other, second)
		l.pass(time.Hour)
		l.mustRefuse(a, fault.Unauthenticated)
		if n := l.entries(); n != 2 {
			t.Errorf("%d entries, not 2", n)
		}
	})
}

// An expired certificate is no answer: the request is a new one, and costs a use.
func TestExpiredIsNotRepeated(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.life, a.limit = time.Minute, 2
		first := l.mustIssue(a)
		l.pass(2 * time.Minute)
		if second := l.mustIssue(a); bytes.Equal(first, second) {
			t.Error("the expired certificate came back")
		}
		l.pass(2 * time.Minute)
		l.mustRefuse(a, fault.Unauthenticated)
	})
}

// A token of many uses renews the certificate of a key that stays, once two thirds of its
// life have passed; one that is used up does not.
func TestRenewalIsNotRepeated(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.life, a.keep, a.limit = 30*time.Hour, 1000*time.Hour, 2
		first := l.mustIssue(a)
		l.pass(20*time.Hour - time.Second)
		l.mustRepeat(a, first)
		l.pass(time.Second)
		second := l.mustIssue(a)
		l.mustRepeat(a, second)
		l.pass(20 * time.Hour)
		l.mustRefuse(a, fault.Unauthenticated)

		// A short life does not shorten the window.
		a = l.ask()
		a.token, a.life = "t2", 3*time.Minute
		first = l.mustIssue(a)
		l.pass(150 * time.Second)
		l.mustRepeat(a, first)
	})
}

// A revoked certificate is no answer either, not even to the request of a moment ago.
func TestRevokedIsNotRepeated(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.limit = 2
		first := l.mustIssue(a)
		l.exec("UPDATE entry SET revoked_at = $1", store.Micros(l.now()))
		if second := l.mustIssue(a); bytes.Equal(first, second) {
			t.Error("the revoked certificate came back")
		}
		l.exec("UPDATE entry SET revoked_at = $1", store.Micros(l.now()))
		l.mustRefuse(a, fault.Unauthenticated)
	})
}

func TestRepeatWhileSigning(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		in := l.intent(a)
		begun, err := l.ledger.Begin(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.ledger.Begin(t.Context(), l.intent(a))
		if fault.KindOf(err) != fault.Unavailable || fault.RetryAfter(err) != time.Second {
			t.Errorf("answered %v, retry after %v", err, fault.RetryAfter(err))
		}
		if _, err := l.ledger.Issued(t.Context(), begun.Reservation, certificate(in)); err != nil {
			t.Fatal(err)
		}
		l.mustRepeat(a, certificate(in))
	})
}

func TestAssertionServesOnce(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.limit, a.id = 9, make([]byte, 16)
		_, _ = rand.Read(a.id)
		l.mustIssue(a)
		again := a
		again.key = newKey(t)
		l.mustRefuse(again, fault.Internal)
		if used, err := l.ledger.CountUses(t.Context(), [][]byte{[]byte(a.token), []byte("never")}); err != nil || used[0] != 1 || used[1] != 0 {
			t.Errorf("uses %v, error %v: the refusal took one", used, err)
		}
	})
}

// What cannot be recorded is not begun.
func TestNothingWithoutItsAuditRecord(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		l.mustIssue(l.ask())
		told := l.told()
		if strings.Count(told, "\n") != 2 || !strings.Contains(told, `"event":"certificate.intent","outcome":"intent","actor":"gateway.test"`) ||
			!strings.Contains(told, `"event":"certificate.issued","outcome":"success"`) {
			t.Errorf("the stream says %s", told)
		}
		l.exec("INSERT INTO audit_record (seq, at, record, hash) VALUES (3, 0, '', $1)", []byte("in the way"))
		a := l.ask()
		a.token = "t2"
		l.mustRefuse(a, fault.Unavailable)
		if n := l.entries(); n != 1 {
			t.Errorf("%d entries, not 1", n)
		}
		if n := l.number("SELECT count(*) FROM spend"); n != 1 {
			t.Errorf("%d credentials were used, not 1", n)
		}
		if l.told() != told {
			t.Error("the stream tells of what was not committed")
		}
	})
}
