package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/estuary-pki/estuary/services/fault"
)

// Conflict tells whether err is the refusal of a second row with the same unique columns.
func Conflict(err error) bool {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
			return true
		}
	}
	return sqlState(err) == "23505" // unique_violation
}

// unavailable makes a *fault.Error of an error that says that the store itself cannot be
// used. Others, those of the Func and of an ended context among them, stay as they are.
func unavailable(op string, err error) error {
	var known *fault.Error
	switch {
	case err == nil, errors.As(err, &known),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case brokenFile(err), brokenServer(err):
		return fault.New(fault.Unavailable, op, "", err)
	}
	return err
}

// brokenFile tells whether SQLite could not use its file. After such an error it may have
// rolled back the whole transaction, savepoints and all.
func brokenFile(err error) bool {
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return false
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY,
		sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY:
		return true
	}
	return false
}

// brokenServer tells whether PostgreSQL could not be reached or could not work, by errors
// that come from nowhere else.
func brokenServer(err error) bool {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return true
	}
	state := sqlState(err)
	if repeatable(state) {
		return true
	}
	switch state {
	case "57014", // statement_timeout
		"57P01", "57P02", "57P03", // the server is shutting down, crashed, or starting
		"57P05", "25P03", // idle_session_timeout, idle_in_transaction_session_timeout
		"55P03", // lock_timeout
		"25006", // the server has become a standby
		"3D000": // the database is gone
		return true
	}
	for _, class := range []string{
		"08", // connection
		"28", // the server does not accept this user
		"53", // out of disk, memory or connections
		"58", // input or output
		"F0", // lock file
		"XX", // internal error, corrupt data
	} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// brokenLine tells whether err is one of the network, which may as well be a Func's own:
// to be asked of the errors of statements alone.
func brokenLine(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// repeatable tells whether PostgreSQL rolled a transaction back for the sake of another,
// so that the same transaction may well succeed now: serialization_failure, deadlock_detected.
func repeatable(state string) bool { return state == "40001" || state == "40P01" }

// sqlState returns PostgreSQL's five-character error code, or "".
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
