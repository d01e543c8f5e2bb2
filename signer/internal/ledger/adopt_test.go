package ledger_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

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
				adopted, err := other.Adopt(t.Context(), false)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				for _, a := range adopted {
					if serials[a.Serial] {
						t.Errorf("%s was adopted twice", a.Serial)
					}
					serials[a.Serial] = true
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
	adopted, err := by.Adopt(l.t.Context(), own)
	if err != nil || len(adopted) != want {
		l.t.Errorf("adopted %d, not %d: %v", len(adopted), want, err)
	}
}
