package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// grouped holds the writer, lets n writes queue up, and lets them go: they share a commit.
// It returns their errors. A write whose index is in cancelled is withdrawn while it waits.
func grouped(t *testing.T, db *store.DB, n int, fn func(i int) store.Func, cancelled ...int) []error {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := db.Write(t.Context(), func(context.Context, store.Tx) error {
			close(held)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	errs := make([]error, n)
	cancel := make([]context.CancelFunc, n)
	ended := make([]chan struct{}, n)
	for i := range n {
		var ctx context.Context
		ctx, cancel[i] = context.WithCancel(t.Context())
		defer cancel[i]()
		ended[i] = make(chan struct{})
		all.Go(func() {
			defer close(ended[i])
			errs[i] = db.Write(ctx, fn(i))
		})
		for store.Waiting(db) <= i { // one after another, so that the order is known
			runtime.Gosched()
		}
	}
	for _, i := range cancelled {
		cancel[i]()
		<-ended[i] // at once, although the writer is held
	}
	close(release)
	all.Wait()
	return errs
}

// seen counts the rows that others see.
func seen(ctx context.Context, db *store.DB) (n int, err error) {
	err = db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM item`).Scan(&n)
	})
	return n, err
}

func TestOneOfGroupFailsAlone(t *testing.T) {
	db := items(t, func() *store.DB { return storetest.Open(t, storetest.SQLite(t)) })
	if err := db.Write(t.Context(), insert(40)); err != nil {
		t.Fatal(err)
	}
	errs := grouped(t, db, 64, func(i int) store.Func {
		return func(ctx context.Context, tx store.Tx) error {
			if i == 63 {
				// The last one sees that the others are in its transaction, not committed.
				var n int
				if err := tx.QueryRow(ctx, `SELECT count(*) FROM item`).Scan(&n); err != nil || n != 60 {
					t.Errorf("the last of the group sees %d rows, error %v; want 60", n, err)
				}
				if n, err := seen(t.Context(), db); err != nil || n != 1 {
					t.Errorf("others see %d rows before the commit, error %v; want 1", n, err)
				}
			}
			if i == 20 {
				return errors.Join(insert(i)(ctx, tx), errOwn)
			}
			return insert(i)(ctx, tx)
		}
	}, 5, 50)
	for i, err := range errs {
		switch i {
		case 5, 50:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("withdrawn write %d: %v", i, err)
			}
		case 20:
			if !errors.Is(err, errOwn) {
				t.Errorf("write %d: %v, want its own error", i, err)
			}
		case 40:
			if !store.Conflict(err) {
				t.Errorf("write %d: %v, want a conflict", i, err)
			}
		default:
			if err != nil {
				t.Errorf("write %d: %v", i, err)
			}
		}
	}
	if n := count(t, db); n != 61 {
		t.Errorf("%d rows, want 61", n)
	}
}

func TestGoexitInGroup(t *testing.T) {
	db := items(t, func() *store.DB { return storetest.Open(t, storetest.SQLite(t)) })
	errs := grouped(t, db, 8, func(i int) store.Func {
		return func(ctx context.Context, tx store.Tx) error {
			err := insert(i)(ctx, tx)
			if i == 3 {
				runtime.Goexit()
			}
			return err
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if n := count(t, db); n != 7 {
		t.Errorf("%d rows, want 7", n)
	}
}

func TestCloseLetsRunningGroupEnd(t *testing.T) {
	db := items(t, func() *store.DB { return storetest.Open(t, storetest.SQLite(t)) })
	var closing sync.WaitGroup
	errs := grouped(t, db, 16, func(i int) store.Func {
		return func(ctx context.Context, tx store.Tx) error {
			if i == 0 {
				closing.Go(func() { _ = db.Close() })
			}
			return insert(i)(ctx, tx)
		}
	})
	closing.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestCloseRefusesWaitingWrites(t *testing.T) {
	db := items(t, func() *store.DB { return storetest.Open(t, storetest.SQLite(t)) })
	var closing sync.WaitGroup
	store.SetGroup(db, 1)
	errs := grouped(t, db, 8, func(i int) store.Func {
		return func(ctx context.Context, tx store.Tx) error {
			if i == 0 {
				closing.Go(func() { _ = db.Close() })
				for db.Ping(t.Context()) == nil { // until Close has begun
					time.Sleep(time.Millisecond)
				}
			}
			return insert(i)(ctx, tx)
		}
	})
	closing.Wait()
	refused := 0
	for i, err := range errs {
		switch {
		case err == nil:
		case fault.KindOf(err) == fault.Unavailable:
			refused++
		default:
			t.Errorf("write %d: %v", i, err)
		}
	}
	if errs[0] != nil || refused == 0 {
		t.Errorf("the running write: %v; %d of 7 waiting ones refused", errs[0], refused)
	}
}

func TestQueueLongerThanGroup(t *testing.T) {
	db := items(t, func() *store.DB { return storetest.Open(t, storetest.SQLite(t)) })
	store.SetGroup(db, 5)
	errs := grouped(t, db, 23, func(i int) store.Func {
		return func(ctx context.Context, tx store.Tx) error {
			n, err := seen(t.Context(), db)
			if err == nil && n != i/5*5 {
				err = fmt.Errorf("write %d: %d rows committed, want %d", i, n, i/5*5)
			}
			return errors.Join(err, insert(i)(ctx, tx))
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}
