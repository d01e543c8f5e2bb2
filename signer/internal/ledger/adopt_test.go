package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// Of many signers one gets an open intent, once its lease has passed; its lease begins anew.
func TestAdopt(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		const open = 70 // more than a page
		for i := range open {
			a := l.ask()
			a.token = fmt.Sprint("t", i)
			begin(t, l, a)
		}
		l.mustAdopt(l.open(1), false, 0)
		l.pass(ledger.Lease + time.Second)
		var mu sync.Mutex
		var group sync.WaitGroup
		serials := map[string]bool{}
		for range 3 {
			other := l.open(1)
			group.Go(func() {
				for _, a := range l.adoptAll(other, false) {
					mu.Lock()
					if serials[a.Serial] {
						t.Errorf("%s was adopted twice", a.Serial)
					}
					serials[a.Serial] = true
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if len(serials) != open {
			t.Errorf("%d of %d adopted", len(serials), open)
		}
		l.mustAdopt(l.open(1), false, 0)
		l.mustAdopt(l.open(1), true, open)
	})
}

// A process that starts takes what its own instance left, and nothing of one whose name
// merely begins the same.
func TestAdoptOwn(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		begin(t, l, l.ask())
		for instance, want := range map[string]int{"signer-": 0, "signer-11": 0, "signer-1": 1} {
			l.instance = instance
			l.mustAdopt(l.open(1), true, want)
		}
		if strings.Contains(l.told(), "altered") {
			t.Error("an alarm was raised")
		}
	})
}

func (l *lab) mustAdopt(by *ledger.Ledger, own bool, want int) {
	l.t.Helper()
	if n := len(l.adoptAll(by, own)); n != want {
		l.t.Errorf("adopted %d, not %d", n, want)
	}
}

// adoptAll adopts until there are none.
func (l *lab) adoptAll(by *ledger.Ledger, own bool) (all []ledger.Adopted) {
	for {
		adopted, err := by.Adopt(l.t.Context(), own)
		if err != nil {
			l.t.Error(err)
		}
		if len(adopted) == 0 {
			return all
		}
		all = append(all, adopted...)
	}
}

// An intent that this process still works on, beyond its lease, is its own no more once it
// has been taken over, by itself: whoever comes late finds it taken.
func TestAdoptFromItself(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		late, in := begin(t, l, l.ask())
		l.pass(ledger.Lease + time.Second)
		adopted := l.adoptAll(l.ledger, false)
		if len(adopted) != 1 {
			t.Fatalf("%d adopted", len(adopted))
		}
		if _, err := l.ledger.Issued(t.Context(), late, []byte("late")); !errors.Is(err, fault.Unavailable) {
			t.Errorf("the late one: %v", err)
		}
		if der, err := l.ledger.Issued(t.Context(), adopted[0].Reservation(in.Record), certificate(in)); err != nil || !bytes.Equal(der, certificate(in)) {
			t.Errorf("%q, %v", der, err)
		}
		if strings.Contains(l.told(), "altered") {
			t.Error("an alarm was raised")
		}
	})
}

// What a process lets go of need not wait for its lease, for that process alone.
func TestRelease(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		late, in := begin(t, l, l.ask())
		l.mustAdopt(l.ledger, false, 0)
		l.ledger.Release(late.Serial())
		l.ledger.Release(strings.Repeat("0", 40)) // was not recorded after all
		l.mustAdopt(l.open(1), false, 0)
		l.mustAdopt(l.ledger, false, 1)
		l.mustAdopt(l.ledger, false, 0)
		if _, err := l.ledger.Issued(t.Context(), late, certificate(in)); !errors.Is(err, fault.Unavailable) {
			t.Errorf("the one that let go: %v", err)
		}
	})
}

// Rows that a clock far ahead has dated hold up nobody once it is right.
func TestRowsOfTheFuture(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		open, issued := l.ask(), l.ask()
		open.token, issued.token, issued.limit = "open", "issued", 2
		open.keep, issued.keep = 1000*time.Hour, 1000*time.Hour
		l.pass(20 * 24 * time.Hour)
		begin(t, l, open)
		first := l.mustIssue(issued)
		l.pass(-20 * 24 * time.Hour)
		l.instance = "signer-2"
		l.mustAdopt(l.open(1), false, 1)
		der, repeated, err := l.issue(issued)
		if err != nil || repeated || bytes.Equal(der, first) {
			t.Errorf("repeated %v, %v", repeated, err)
		}
	})
}
