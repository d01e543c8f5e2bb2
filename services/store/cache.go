package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"

	"modernc.org/sqlite"
)

// maxCompiled bounds the statements that one connection keeps: a program has some dozens,
// and one that builds its statements must not fill the memory.
const maxCompiled = 256

// openPool returns a pool of connections to a dataSource that keep their statements
// compiled: compiling them for each run took an eighth of the processor time of a service.
func openPool(name string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(name)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

type connector struct{ driver.Connector }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{driverConn: conn.(driverConn), idle: make(map[string]driverStmt)}, nil
}

// driverConn, driverStmt and driverRows are all that the driver's own types can do, so that
// database/sql finds it behind ours as well. A driver that lacks some of it panics with its
// first statement.
type (
	driverConn interface {
		driver.Conn
		driver.ConnBeginTx
		driver.ConnPrepareContext
		driver.ExecerContext
		driver.QueryerContext
		driver.Pinger
		driver.SessionResetter
		driver.Validator
	}
	driverStmt interface {
		driver.Stmt
		driver.StmtExecContext
		driver.StmtQueryContext
	}
	driverRows interface {
		driver.RowsColumnTypeDatabaseTypeName
		driver.RowsColumnTypeLength
		driver.RowsColumnTypeNullable
		driver.RowsColumnTypePrecisionScale
		driver.RowsColumnTypeScanType
	}
)

// connection is a connection of the driver that keeps its statements. database/sql lets one
// goroutine at a time into it and its rows.
//
// A statement of the driver is one sqlite3_stmt. Its rows step through that one, and their
// Close resets it. Run again before, it cannot bind its parameters (SQLITE_MISUSE), or, when
// it has none, goes on where the open rows are, which then begin again with its Close. So
// who runs a statement takes it out of idle, and it comes back when its rows are closed;
// meanwhile the same text is compiled once more. Rows that nobody closes keep it.
//
// After a change of the schema, here or by another connection, sqlite3_step compiles a
// statement anew by itself, before its first row.
type connection struct {
	driverConn
	idle map[string]driverStmt // by text, at most maxCompiled
}

func (c *connection) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	result, err := s.ExecContext(ctx, args)
	c.give(query, s, err)
	return result, err
}

func (c *connection) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	found, err := s.QueryContext(ctx, args)
	if err != nil {
		c.give(query, s, err)
		return nil, err
	}
	return &rows{driverRows: found.(driverRows), conn: c, query: query, stmt: s}, nil
}

// Close finalizes the statements first: SQLite keeps a connection, with its locks and its
// files, for as long as it has one.
func (c *connection) Close() error {
	for _, s := range c.idle {
		_ = s.Close() // reset, so it has no error left to tell
	}
	clear(c.idle)
	return c.driverConn.Close()
}

func (c *connection) take(ctx context.Context, query string) (driverStmt, error) {
	if s, ok := c.idle[query]; ok {
		delete(c.idle, query)
		return s, nil
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.(driverStmt), nil
}

// give takes a statement back that has ended with err. After an error, which is rare, a
// fresh one has nothing of it left.
func (c *connection) give(query string, s driverStmt, err error) {
	if _, twice := c.idle[query]; err != nil || twice || len(c.idle) == maxCompiled || !repeated(query) {
		_ = s.Close() // its error was that of the run
		return
	}
	c.idle[query] = s
}

// repeated tells whether a statement is worth keeping. A schema is made once. PRAGMA must
// not be kept: many of them read or set their value while they are compiled.
func repeated(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n")
	if i := strings.IndexAny(query, " \t\r\n"); i >= 0 {
		query = query[:i]
	}
	switch query {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return true
	}
	return false
}

// rows gives its statement back when it is closed.
type rows struct {
	driverRows
	conn  *connection
	query string
	stmt  driverStmt
}

func (r *rows) Close() error {
	err := r.driverRows.Close()
	r.conn.give(r.query, r.stmt, err)
	return err
}
