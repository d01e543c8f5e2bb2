package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/estuary-pki/estuary/services/fault"
)

// Limits of PostgreSQL connections. Those with a name of PostgreSQL's own may be set in
// the URL instead.
const (
	poolSize       = 16
	poolIdle       = 5 * time.Minute
	poolLife       = 30 * time.Minute // a changed address of the server is followed within
	connectTimeout = 5 * time.Second
	commitTimeout  = 5 * time.Second
	// attempts bounds the runs of one transaction that loses against others.
	attempts = 5
	// pause is the wait before the second attempt; each further one waits longer by it.
	pause = 5 * time.Millisecond
)

// A client that is frozen within a transaction loses its locks before those who wait for
// them give up.
var parameters = map[string]string{
	"statement_timeout":                   "10s",
	"lock_timeout":                        "5s",
	"idle_in_transaction_session_timeout": "3s",
}

// server is the engine of a PostgreSQL database that other processes use too.
type server struct{ pool *sql.DB }

// openPostgres connects once, so that a wrong URL is told at the start.
func openPostgres(ctx context.Context, c Config) (*DB, error) {
	config, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("opening a store: %w", err) // pgx leaves the password out
	}
	if err := checkTLS(config); err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	for name, value := range parameters {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	config.RuntimeParams["application_name"] = c.Holder
	if !c.ReadOnly && config.ValidateConnect == nil && !choosesServer(c.URL) {
		// Of several hosts one may be a standby, which lags behind and cannot be written.
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if c.ReadOnly { // who looks through all of it takes longer than who serves
		config.RuntimeParams["default_transaction_read_only"] = "on"
		config.RuntimeParams["statement_timeout"] = "0"
		config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	pool.SetConnMaxIdleTime(poolIdle)
	pool.SetConnMaxLifetime(poolLife)
	db := &DB{
		engine: &server{pool: pool}, log: c.Log, now: c.Now, readOnly: c.ReadOnly, probe: "SELECT 1",
		lock: []string{
			"SET LOCAL statement_timeout = 0",
			"SET LOCAL lock_timeout = 0",
			// The first number is ours, the second stands for the schema in use.
			"SELECT pg_advisory_xact_lock(1702064245, hashtext(current_schema()))",
		},
	}
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store at %s: %w", config.Host, err), pool.Close())
	}
	return db, nil
}

// choosesServer tells whether the URL says itself which kind of server it means, also when
// that is any.
func choosesServer(text string) bool {
	_, query, _ := strings.Cut(text, "?")
	values, _ := url.ParseQuery(query) // pgx has read it, and has told what is wrong with it
	return values.Has("target_session_attrs")
}

// checkTLS refuses a way to another machine on which somebody else could read the rows, or
// answer in place of the server. sslmode=prefer, the default, is such a way: it goes on in
// the clear when TLS fails.
func checkTLS(config *pgx.ConnConfig) error {
	ways := append([]*pgconn.FallbackConfig{{Host: config.Host, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, w := range ways {
		if !isLocal(w.Host) && (w.TLSConfig == nil || w.TLSConfig.InsecureSkipVerify) {
			return fmt.Errorf("opening a store: the way to %s is not verified TLS: add sslmode=verify-full and sslrootcert=/PATH/TO/CA.pem to the URL", w.Host)
		}
	}
	return nil
}

// isLocal tells whether the host is this machine: a folder of unix sockets, or loopback.
func isLocal(host string) bool {
	if network, _ := pgconn.NetworkAddress(host, 0); network == "unix" || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (s *server) close() error { return s.pool.Close() }

func (s *server) read(ctx context.Context, fn Func) error {
	// Repeatable read gives one snapshot, as on SQLite, and a reader at it never has to
	// be repeated.
	return s.repeat(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, fn)
}

func (s *server) write(ctx context.Context, fn Func) error {
	return s.repeat(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, fn)
}

// repeat runs fn until it is not in another's way, at most attempts times.
func (s *server) repeat(ctx context.Context, opts *sql.TxOptions, fn Func) error {
	for n := 1; ; n++ {
		again, err := s.once(ctx, opts, fn)
		if !again || n == attempts {
			return err
		}
		select {
		case <-time.After(time.Duration(n) * pause):
		case <-ctx.Done():
			return err
		}
	}
}

// once runs fn in one transaction. again says that nothing has been done and that the same
// may succeed at once.
func (s *server) once(ctx context.Context, opts *sql.TxOptions, fn Func) (again bool, err error) {
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool

	// The transaction obeys ctx up to its commit, and a limit of its own from there: a
	// caller who leaves must not turn a commit under way into an unknown outcome.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	obey := context.AfterFunc(ctx, cancel)
	defer obey()

	tx, err := conn.BeginTx(inner, opts)
	if err != nil {
		// A connection that broke while it lay in the pool: another may be whole.
		stale := errors.Is(err, driver.ErrBadConn) || sqlState(err) == "57P01" || brokenLine(err)
		return stale && ctx.Err() == nil, lost(err, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	t := &transaction{runner: tx}
	if err := t.run(ctx, fn); err != nil {
		return repeatable(sqlState(err)) || repeatable(sqlState(t.failed)), lost(err, t.failed)
	}
	if !obey() {
		return false, fmt.Errorf("before the commit: %w", ctx.Err())
	}
	limit := time.AfterFunc(commitTimeout, cancel)
	defer limit.Stop()
	err = tx.Commit()
	return repeatable(sqlState(err)), lost(err, err)
}

// lost makes err Unavailable when its cause is the line to the server. An ended context
// stays one.
func lost(err, cause error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !brokenLine(cause) {
		return err
	}
	return fault.New(fault.Unavailable, "store.Postgres", "", err)
}
