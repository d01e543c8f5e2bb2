package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"

	"github.com/estuary-pki/estuary/services/fault"
)

// maxGroup is the number of writes that share one commit at most.
const maxGroup = 64

var errAbandoned = errors.New("the function panicked or ended its goroutine")

// writer lets one write after another into the one writing transaction of a SQLite file.
// It takes what is waiting, up to maxGroup, gives each a savepoint, and commits them with
// one fsync; it never waits for more to come.
//
// The goroutine of serve, started by newWriter and ended by close, says whose turn it is;
// each Func runs in the goroutine of its own caller, so that a panic ends up there.
type writer struct {
	db      *sql.DB
	rewrite func(string) string
	log     *slog.Logger
	queue   chan *ticket
	stop    chan struct{} // closed by close
	done    chan struct{} // closed when serve has returned

	// These are of serve's goroutine alone.
	conn  *sql.Conn // nil until needed, and after an error that it may not have survived
	down  bool      // the last commit did not succeed
	group int       // most writes per commit
}

// ticket is one waiting write.
type ticket struct {
	// taken is set by the writer before it gives the first turn, or by the caller who
	// withdraws: whoever comes first.
	taken   atomic.Bool
	turn    chan *transaction // writer to caller, once for each run of the Func
	ran     chan error        // caller to writer, what the Func returned
	verdict chan error        // writer to caller, once, after the commit
	gone    bool              // the caller has panicked; of serve's goroutine alone
}

func newWriter(db *sql.DB, rewrite func(string) string, log *slog.Logger) *writer {
	w := &writer{
		db: db, rewrite: rewrite, log: log, group: maxGroup,
		queue: make(chan *ticket, maxGroup), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.serve()
	return w
}

// write waits for its turn, runs fn, and waits for the commit. Until its turn has come it
// gives up when ctx ends; afterwards the outcome is known soon, and waited for.
func (w *writer) write(ctx context.Context, fn Func) error {
	t := &ticket{turn: make(chan *transaction, 1), ran: make(chan error, 1), verdict: make(chan error, 1)}
	select {
	case w.queue <- t:
	case <-ctx.Done():
		return fmt.Errorf("waiting to write: %w", ctx.Err())
	case <-w.stop:
		return fault.New(fault.Unavailable, "store.Write", "", errClosed)
	}
	ended, stopped := ctx.Done(), w.done
	for {
		select {
		case tx := <-t.turn:
			t.run(ctx, tx, fn)
		case err := <-t.verdict:
			return err
		case <-ended:
			if t.taken.CompareAndSwap(false, true) {
				return fmt.Errorf("waiting to write: %w", ctx.Err())
			}
			ended = nil
		case <-stopped:
			if t.taken.CompareAndSwap(false, true) {
				return fault.New(fault.Unavailable, "store.Write", "", errClosed)
			}
			stopped = nil
		}
	}
}

// run tells the writer what fn returned, also when fn does not return.
func (t *ticket) run(ctx context.Context, tx *transaction, fn Func) {
	err := errAbandoned
	defer func() { t.ran <- err }()
	err = tx.run(ctx, fn)
}

// serve commits groups until close.
func (w *writer) serve() {
	defer close(w.done)
	for {
		select {
		case <-w.stop:
			return
		case first := <-w.queue:
			// Who has just had a verdict and comes with the next write gets to the queue
			// first: it takes microseconds and makes fuller groups.
			runtime.Gosched()
			w.commit(w.waiting(first))
		}
	}
}

// waiting takes first and the tickets that lie in the queue at this moment, without those
// that have been withdrawn.
func (w *writer) waiting(first *ticket) []*ticket {
	var group []*ticket
	for t := first; ; {
		if t.taken.CompareAndSwap(false, true) {
			group = append(group, t)
		}
		if len(group) == w.group {
			return group
		}
		select {
		case t = <-w.queue:
		default:
			return group
		}
	}
}

// commit gives every ticket of the group its verdict. When one of them loses the common
// transaction, each runs again on its own, so that no other suffers from it.
func (w *writer) commit(group []*ticket) {
	if len(group) == 0 || w.together(group) {
		return
	}
	for _, t := range group {
		w.together([]*ticket{t})
	}
}

// together runs the group in one transaction. Not settled means that nothing has been
// written and no ticket has its verdict; a group of one is always settled.
func (w *writer) together(group []*ticket) (settled bool) {
	results := make([]error, len(group))
	err := w.begin()
	if err == nil {
		err = w.each(group, results)
		if err != nil && len(group) > 1 {
			_ = w.abort(err) // the one at fault gets it when it is alone
			return false
		}
	}
	if err == nil {
		err = w.exec("COMMIT")
	}
	if err != nil {
		// After a failed COMMIT it is not known whether the journal reached the disk:
		// running them again could do their work twice.
		err = w.abort(err)
		for i := range results {
			results[i] = err
		}
	}
	w.note(err)
	for i, t := range group {
		t.verdict <- results[i]
	}
	return true
}

// each fills in what the Funcs came to.
func (w *writer) each(group []*ticket, results []error) (lost error) {
	for i, t := range group {
		if t.gone {
			continue
		}
		if results[i], lost = w.one(t); lost != nil {
			return lost
		}
	}
	return nil
}

// one gives one ticket its turn within a savepoint, and returns what it came to. lost says
// that SQLite has, or may have, rolled back the whole transaction.
func (w *writer) one(t *ticket) (result, lost error) {
	if err := w.exec("SAVEPOINT member"); err != nil {
		return nil, err
	}
	tx := &transaction{runner: w.conn, rewrite: w.rewrite, whole: true}
	t.turn <- tx
	result = <-t.ran
	t.gone = errors.Is(result, errAbandoned)
	for _, err := range []error{tx.failed, result} {
		if brokenFile(err) {
			return nil, err
		}
	}
	if result != nil {
		if err := w.exec("ROLLBACK TO member"); err != nil {
			return nil, err
		}
	}
	return result, w.exec("RELEASE member")
}

// begin starts the transaction of a group. IMMEDIATE, because a transaction that begins as
// a reader cannot be made a writer once another has written.
func (w *writer) begin() error {
	if w.conn == nil {
		conn, err := w.db.Conn(context.Background())
		if err != nil {
			return err
		}
		w.conn = conn
	}
	return w.exec("BEGIN IMMEDIATE")
}

func (w *writer) exec(statement string) error {
	_, err := w.conn.ExecContext(context.Background(), statement)
	return err
}
