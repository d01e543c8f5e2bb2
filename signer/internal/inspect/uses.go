package inspect

import (
	"cmp"
	"context"
	"slices"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// use is one use of a credential, by what its validator signed.
type use struct {
	seq       int64
	at, until time.Time // of the use, and of what keeps it in the count
	limit     int
}

// use notes what a row took from its credential and did not give back.
func (i *inspection) use(s ledger.Stored, a *assertionv1.Assertion) {
	if s.State == signerv1.EntryState_ENTRY_STATE_FAILED && ledger.Returns(a) {
		return
	}
	ids := map[string]bool{}
	for _, id := range a.GetSpend().GetIds() {
		ids[string(id)] = true
	}
	u := use{seq: s.Seq, at: s.CreatedAt, until: a.GetSpend().GetKeepUntil().AsTime(), limit: int(a.GetSpend().GetLimit())}
	if s.UseLimit.Valid { // for certificates the profile says it
		u.until, u.limit = s.KeepUntil, int(s.UseLimit.Int64)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for id := range ids {
		i.uses[id] = append(i.uses[id], u)
	}
}

// limits finds credentials that were used more often than the validator allowed, whatever
// the counts say. A name that comes again after its end, as one-time passwords do, is that of
// another credential.
func (i *inspection) limits(context.Context, *ledger.View) error {
	for id, uses := range i.uses {
		slices.SortFunc(uses, func(a, b use) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) })
		var kept []use
		for _, u := range uses {
			kept = append(slices.DeleteFunc(kept, func(k use) bool { return !k.until.After(u.at) }), u)
			if len(kept) > u.limit {
				i.wrong(u.seq, "row %d is use %d of credential %x, of which %d are allowed", u.seq, len(kept), id, u.limit)
				break
			}
		}
	}
	return nil
}

// counts finds uses that were counted and have no row. More rows than counted uses are no
// mistake: a count goes when its credential has ended. Where an assertion could not be
// opened, nobody knows what it used.
func (i *inspection) counts(ctx context.Context, v *ledger.View) error {
	return v.Counts(ctx, func(c ledger.Count) {
		switch taken := int64(len(i.uses[string(c.ID)])); {
		case c.Altered:
			i.wrong(0, "the count of the uses of credential %s was altered", c)
		case taken < c.Used && !i.unopened:
			i.wrong(0, "credential %s was used %d times by its count, and %d times by the ledger's rows", c, c.Used, taken)
		}
	})
}
