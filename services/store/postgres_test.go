package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

func postgres(t *testing.T) *store.DB {
	t.Helper()
	return items(t, func() *store.DB { return storetest.Open(t, storetest.Postgres(t)) })
}

// Two transactions that take the same rows in opposite order: PostgreSQL ends one of them,
// and it succeeds when it is run again.
func TestDeadlockIsRepeated(t *testing.T) {
	db := postgres(t)
	for id := range 2 {
		if err := db.Write(t.Context(), insert(id)); err != nil {
			t.Fatal(err)
		}
	}
	var both, all sync.WaitGroup
	both.Add(2)
	runs := make([]int, 2)
	for who := range 2 {
		all.Go(func() {
			err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
				runs[who]++
				if _, err := tx.Exec(ctx, `UPDATE item SET n = n + 1 WHERE id = $1`, who); err != nil {
					return err
				}
				if runs[who] == 1 {
					both.Done()
					both.Wait() // until each has its first row
				}
				_, err := tx.Exec(ctx, `UPDATE item SET n = n + 1 WHERE id = $1`, 1-who)
				return err
			})
			if err != nil {
				t.Errorf("writer %d: %v", who, err)
			}
		})
	}
	all.Wait()
	if runs[0]+runs[1] != 3 {
		t.Errorf("the functions ran %d and %d times, want three runs together", runs[0], runs[1])
	}
	var sum int
	err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, `SELECT sum(n) FROM item`).Scan(&sum)
	})
	if err != nil || sum != 4 {
		t.Errorf("sum %d, error %v, want 4", sum, err)
	}
}

func TestRepetitionIsBounded(t *testing.T) {
	db := postgres(t)
	runs := 0
	err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		runs++
		return fmt.Errorf("losing: %w", &pgconn.PgError{Code: "40001"})
	})
	if fault.KindOf(err) != fault.Unavailable || runs != 5 {
		t.Errorf("after %d runs: %v; want Unavailable after 5", runs, err)
	}
}

func TestLostConnection(t *testing.T) {
	db := postgres(t)
	err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := insert(1)(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a connection lost within the transaction: %v, want Unavailable", err)
	}
	// Connections that were cut while they lay in the pool are no reason to fail.
	for round := range 3 {
		err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name = 'storetest' AND pid <> pg_backend_pid() AND query LIKE '%item%'`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Write(t.Context(), insert(10+round)); err != nil {
			t.Errorf("writing after the pool was cut: %v", err)
		}
	}
	if n := count(t, db); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestFunctionsOwnNetworkError(t *testing.T) {
	db := postgres(t)
	own := &ownTimeout{}
	err := db.Write(t.Context(), func(context.Context, store.Tx) error { return own })
	if !errors.Is(err, own) || fault.KindOf(err) != fault.Internal {
		t.Errorf("error %v, want the function's own", err)
	}
}

type ownTimeout struct{}

func (*ownTimeout) Error() string   { return "a time-out of the function's own" }
func (*ownTimeout) Timeout() bool   { return true }
func (*ownTimeout) Temporary() bool { return false }

func TestServerSettings(t *testing.T) {
	db := storetest.Open(t, storetest.Postgres(t)+"&lock_timeout=1234")
	for name, want := range map[string]string{
		"transaction_isolation": "read committed", "statement_timeout": "10s", "lock_timeout": "1234ms",
		"idle_in_transaction_session_timeout": "3s", "application_name": "storetest", "fsync": "on", "synchronous_commit": "on",
	} {
		var got string
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return tx.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&got)
		})
		if err != nil || got != want {
			t.Errorf("%s is %q, error %v; want %q", name, got, err, want)
		}
	}
}

// Passwords and rows go to another machine under verified TLS, or not at all.
func TestTLS(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, meshtest.New(t).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, refused := range map[string]bool{
		"postgres://u:hush@db.example/x":                                                true,
		"postgres://u:hush@db.example/x?sslmode=disable":                                true,
		"postgres://u:hush@db.example/x?sslmode=allow":                                  true,
		"postgres://u:hush@db.example/x?sslmode=prefer":                                 true,
		"postgres://u:hush@db.example/x?sslmode=require":                                true,
		"postgres://u:hush@db.example/x?sslmode=verify-ca&sslrootcert=" + ca:            true,
		"postgres://u:hush@192.0.2.1/x":                                                 true,
		"postgres://u:hush@[2001:db8::1]/x":                                             true,
		"postgres://u:hush@localhost.example/x":                                         true,
		"postgres://u:hush@127.0.0.1,db.example/x?sslmode=disable":                      true,
		"postgres://u:hush@127.0.0.1/x?host=db.example":                                 true,
		"postgresql://u:hush@db.example/x":                                              true,
		"postgres://u:hush@db.example/x?sslmode=verify-full":                            false,
		"postgres://u:hush@db.example/x?sslmode=verify-full&sslrootcert=" + ca:          false,
		"postgres://u:hush@a.example,127.0.0.1/x?sslmode=verify-full&sslrootcert=" + ca: false,
		"postgres://u:hush@127.0.0.1/x":                                                 false,
		"postgres://u:hush@[::1]/x?sslmode=disable":                                     false,
		"postgres://u:hush@localhost/x?sslmode=require":                                 false,
		"postgres://u:hush@%2Frun%2Fpostgresql/x":                                       false,
		"postgres:///x?host=/run/postgresql":                                            false,
	} {
		err := store.CheckTLS(url)
		if (err != nil) != refused {
			t.Errorf("%s: %v", url, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "add sslmode=verify-full and sslrootcert=") || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%s: %v", url, err)
		}
	}
	t.Setenv("PGSSLMODE", "verify-full")
	if err := store.CheckTLS("postgres://u:hush@db.example/x"); err != nil {
		t.Errorf("by the environment: %v", err)
	}
	c := store.Config{URL: "postgres://u:hush@db.example/x?sslmode=disable", Holder: "x", Log: slog.New(slog.DiscardHandler)}
	if _, err := store.Open(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), "opening a store: the way to db.example is not verified TLS") {
		t.Errorf("opened: %v", err)
	}
}

func TestUnreachableServer(t *testing.T) {
	url := storetest.Postgres(t)
	wrong := strings.Replace(url, "@", "wrong@", 1)
	for _, url := range []string{"postgres://estuary:hush@127.0.0.1:1/postgres", wrong} {
		_, err := store.Open(t.Context(), store.Config{URL: url, Holder: "x", Log: slog.New(slog.DiscardHandler)})
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("error %v, want Unavailable", err)
		}
		if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "wrong")) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	_, err := store.Open(t.Context(), store.Config{URL: "postgres://estuary:hush@127.0.0.1:port/x", Holder: "x", Log: slog.New(slog.DiscardHandler)})
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("a bad URL: %v, want an error without the password", err)
	}
}
