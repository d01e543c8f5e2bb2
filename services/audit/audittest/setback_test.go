package audittest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

var errBoom = errors.New("boom")

// Many writers, some of whom give up after their record: what they lose is no rollback, and
// the chain is whole.
func TestChainOfMany(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		const writers, each = 8, 20
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for i := range each {
					var e audit.Entry
					err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
						if e, err = l.chain.Append(ctx, tx, audit.Record{Time: at, Event: "test.done"}); err == nil && i%4 == 3 {
							err = errBoom
						}
						return err
					})
					switch {
					case err == nil:
						l.chain.Committed(e)
					case !errors.Is(err, errBoom):
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		l.keep(t)
		if r := l.verify(t, l.known(t)); r.Found != 0 || r.Records != writers*each*3/4 || r.Checkpoints != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// A process whose database goes back under its feet notices in the transaction that would
// record something, and records nothing any more, even when the database comes back.
func TestSetBackWhileRunning(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		for name, c := range map[string]struct {
			do   []string
			more int
			what string
		}{
			"shorter":          {do: cutAll, what: "the database ends at record 22, but record 30 was committed"},
			"empty":            {do: []string{`DELETE FROM audit_record`, `DELETE FROM audit_head`, `DELETE FROM audit_checkpoint`}, what: "ends at record 0"},
			"one shorter":      {do: []string{`DELETE FROM audit_record WHERE seq = 30`, `UPDATE audit_head SET seq = 29, hash = (SELECT hash FROM audit_record WHERE seq = 29)`}, what: "ends at record 29"},
			"as long, another": {do: cutAll, more: 8, what: "record 30 of the database is not the one"},
		} {
			t.Run(name, func(t *testing.T) {
				undo := l.snapshot(t)
				running := l.chain
				l.exec(t, c.do...)
				l.chain = newChain(t, 1) // another process
				l.append(t, c.more)
				l.chain = running
				err := l.try(t.Context())
				if !errors.Is(err, audit.ErrRolledBack) || !strings.Contains(err.Error(), c.what) {
					t.Errorf("appended: %v", err)
				}
				undo()
				if again := l.try(t.Context()); again == nil || again.Error() != err.Error() {
					t.Errorf("appended again: %v", again)
				}
				l.restart(t)
				l.chain.Committed(audit.Entry{Seq: 30, Hash: l.hash(t, 30)})
				undo = l.snapshot(t)
				l.append(t, 1)
				undo()
				l.restart(t)
				l.chain.Committed(audit.Entry{Seq: 30, Hash: l.hash(t, 30)})
			})
		}
	})
}

// A chain that went back and has grown longer than before looks right to Append; the keeper
// sees it.
func TestSetBackAndLonger(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := signed(t, opener())
		k, err := l.keeper(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.append(t, 5)
		running := l.chain
		l.exec(t, `DELETE FROM audit_record WHERE seq > 27`, `UPDATE audit_head SET seq = 27, hash = (SELECT hash FROM audit_record WHERE seq = 27)`)
		l.chain = newChain(t, 1)
		l.append(t, 6)
		l.chain = running
		l.round(t, k)
		if err := k.Check(t.Context()); !errors.Is(err, audit.ErrRolledBack) || !strings.Contains(err.Error(), "lacks record 30") {
			t.Error(err)
		}
	})
}

// hash returns the hash of a record.
func (l *lab) hash(t *testing.T, seq int64) (h [32]byte) {
	t.Helper()
	var hash []byte
	if err := l.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, `SELECT hash FROM audit_record WHERE seq = $1`, seq).Scan(&hash)
	}); err != nil {
		t.Fatal(err)
	}
	return [32]byte(hash)
}

func TestKeySize(t *testing.T) {
	if _, err := audit.NewChain(secret.New(make([]byte, 31))); err == nil {
		t.Error("a key of 31 octets")
	}
}
