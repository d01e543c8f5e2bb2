package store

import (
	"context"
	"database/sql/driver"
	"log/slog"

	"github.com/estuary-pki/estuary/services/fault"
)

// abort undoes what is left of the transaction and drops the connection, which may not
// have survived a full disk or an error of the disk; the next group opens another. It
// returns the error as Unavailable.
func (w *writer) abort(cause error) error {
	if w.conn != nil {
		_ = w.exec("ROLLBACK") // fails when SQLite has done it already
		_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = w.conn.Close()
		w.conn = nil
	}
	return fault.New(fault.Unavailable, "store.Write", "", cause)
}

// note logs when the store can no longer be written, and when it can again.
func (w *writer) note(err error) {
	switch ctx := context.Background(); {
	case err != nil && !w.down:
		w.log.LogAttrs(ctx, slog.LevelError, "the store cannot be written", slog.String("error", err.Error()))
	case err == nil && w.down:
		w.log.LogAttrs(ctx, slog.LevelInfo, "the store can be written again")
	}
	w.down = err != nil
}

// close waits for the running group, refuses the waiting ones, and closes the connection.
func (w *writer) close() error {
	close(w.stop)
	<-w.done
	if w.conn != nil {
		_ = w.conn.Close() // gives it back to db, which closes it and says how that went
	}
	return w.db.Close()
}
