package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// Whoever can write to the database cannot give a token more uses.
func TestAlteredCount(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		for name, change := range map[string]string{
			"set back":      "UPDATE spend SET used = 0",
			"one less":      "UPDATE spend SET used = 1",
			"without a MAC": "UPDATE spend SET used = 0, mac = NULL",
			"moved":         "UPDATE spend SET used = 1, mac = (SELECT mac FROM spend WHERE id <> '' ORDER BY keep_until LIMIT 1)",
		} {
			t.Run(name, func(t *testing.T) {
				a := l.ask()
				a.token, a.limit, a.keep = t.Name(), 3, 2*time.Hour
				one := func() ask { b := a; b.key = newKey(t); return b }
				l.mustIssue(one())
				l.mustIssue(one())
				l.exec(change+" WHERE id = $1", []byte(a.token))
				before := len(l.told())
				l.mustRefuse(one(), fault.Internal)
				if !strings.Contains(l.told()[before:], "ledger.altered") {
					t.Error("nobody is told")
				}
				l.exec("DELETE FROM spend")
			})
		}
	})
}

// Giving a use back does not repair a count that was altered.
func TestAlteredCountIsNotGivenBack(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.limit = 3
		v, _ := begin(t, l, a)
		l.exec("UPDATE spend SET used = 2")
		if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); !errors.Is(err, fault.Internal) {
			t.Errorf("answered %v", err)
		}
		if n := l.number("SELECT used FROM spend"); n != 2 {
			t.Errorf("the count is %d now", n)
		}
	})
}

// Uses that were given back can be taken again, as often as the limit says.
func TestGivenBackAndTaken(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		a.limit = 2
		for range 5 {
			v, _ := begin(t, l, a)
			if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			a.key = newKey(t)
			l.mustIssue(a)
		}
		a.key = newKey(t)
		l.mustRefuse(a, fault.Unauthenticated)
	})
}

func TestBudget(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		l.budgets = []ledger.Budget{ledger.LabelBudget("device", 4), ledger.KeyBudget("v1", 100)}
		l.pass(30 * time.Minute) // half past twelve
		asks := make([]ask, 64)
		for i := range asks {
			asks[i] = l.ask()
			asks[i].token = fmt.Sprint("t", i)
		}
		done := make(chan error, len(asks))
		for _, a := range asks {
			in := l.intent(a)
			go func() { _, err := l.ledger.Begin(t.Context(), in); done <- err }()
		}
		issued := 0
		for range asks {
			switch err := <-done; {
			case err == nil:
				issued++
			case !errors.Is(err, ledger.ErrBudget) || !errors.Is(err, fault.Busy) || fault.RetryAfter(err) != time.Minute:
				t.Error(err)
			}
		}
		if issued != 4 || l.number("SELECT sum(used) FROM spend") != 4 {
			t.Errorf("%d issued, %d uses taken, not 4", issued, l.number("SELECT sum(used) FROM spend"))
		}
		// At a quarter past one three quarters of the last hour of the clock count: three.
		l.pass(45 * time.Minute)
		more := l.ask()
		more.token = "more"
		l.mustRepeat(more, l.mustIssue(more)) // and takes nothing
		even := l.ask()
		even.token = "even more"
		l.mustRefuse(even, fault.Busy)
		l.pass(45 * time.Minute)
		l.mustIssue(even)
	})
}

func TestPurge(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		l.budgets = []ledger.Budget{ledger.LabelBudget("device", 4)}
		short, long := l.ask(), l.ask()
		short.token, long.token, long.keep = "short", "long", 5*time.Hour
		purge := func(at time.Time, want int64) {
			t.Helper()
			if n, err := l.ledger.Purge(t.Context(), at); n != want || err != nil {
				t.Errorf("%d deleted, not %d: %v", n, want, err)
			}
		}
		purge(l.now().AddDate(1, 0, 0), 0) // an empty ledger
		l.mustIssue(short)
		l.mustIssue(long)
		purge(l.now(), 0)
		// A clock that is ahead deletes nothing that would be missed when it is right.
		purge(l.now().AddDate(1, 0, 0), 0)
		l.pass(2*time.Hour + time.Minute)
		purge(l.now(), 0) // nobody has held this time against another clock
		third := l.ask()
		third.token = "third"
		l.mustIssue(third)
		purge(l.now(), 1)
		if spend, budget := l.number("SELECT count(*) FROM spend"), l.number("SELECT count(*) FROM budget"); spend != 2 || budget != 1 {
			t.Errorf("%d counts and %d budgets left", spend, budget)
		}
		long.key = newKey(t)
		l.mustRefuse(long, fault.Unauthenticated)
	})
}

// Whoever deletes a count gives nobody another use: the ledger's rows tell of the earlier.
func TestDeletedCount(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		a := l.ask()
		l.mustIssue(a)
		l.exec("DELETE FROM spend")
		again := a
		again.key = newKey(t)
		l.mustRefuse(again, fault.Internal)
		if !strings.Contains(l.told(), "is gone") {
			t.Error("nobody is told")
		}
		// When it has ended, its count may go, and a credential of the same name is a new one.
		l.pass(a.keep + time.Second)
		l.mustIssue(again)
	})
}

// What failed takes nothing from the budgets: an outage of the key must not go on when it is
// over.
func TestFailedGivesBudgetsBack(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		l.budgets = []ledger.Budget{ledger.LabelBudget("device", 2), ledger.KeyBudget("v1", 3)}
		a := l.ask()
		for range 5 {
			v, _ := begin(t, l, a)
			if err := l.ledger.Failed(t.Context(), v, errors.New("no key")); err != nil {
				t.Fatal(err)
			}
		}
		l.mustIssue(a)
	})
}

// An intent whose count was altered is ended all the same, with an alarm: it must not be
// looked at again and again, and its serial number belongs on the list.
func TestAlteredCountKeepsNothingOpen(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		v, _ := begin(t, l, l.ask())
		l.exec("UPDATE spend SET mac = NULL")
		if err := l.ledger.Abandon(t.Context(), v, errors.New("too late")); !errors.Is(err, fault.Internal) {
			t.Errorf("answered %v", err)
		}
		if failed := l.number("SELECT count(*) FROM entry WHERE state = 3 AND revoked_at IS NOT NULL"); failed != 1 {
			t.Errorf("%d given up", failed)
		}
		if !strings.Contains(l.told(), "ledger.altered") {
			t.Error("nobody is told")
		}
	})
}
