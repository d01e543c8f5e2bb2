package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTimeout allows for the installation of the Debian package.
const startTimeout = 10 * time.Minute

// Postgres returns the URL of a schema of the test's own, which is dropped at its end.
func Postgres(t testing.TB) string {
	t.Helper()
	base, err := server()
	if err != nil {
		t.Fatalf("a PostgreSQL server is needed: %v", err)
	}
	schema := "test_" + strings.ToLower(rand.Text())
	if err := run(base, "CREATE SCHEMA "+schema); err != nil {
		t.Fatalf("creating a schema: %v", err)
	}
	t.Cleanup(func() {
		if err := run(base, "SET lock_timeout = '10s'; DROP SCHEMA "+schema+" CASCADE"); err != nil {
			t.Errorf("dropping the schema: %v", err)
		}
	})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal("ESTUARY_TEST_POSTGRES is not a URL") // the error would show the password
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

// server returns the URL of the server, once per process.
var server = sync.OnceValues(func() (string, error) {
	if u := os.Getenv("ESTUARY_TEST_POSTGRES"); u != "" {
		return u, nil
	}
	script, err := find(filepath.Join("deploy", "lab", "postgres"))
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, script, "up") //nolint:gosec // our own script, found above
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w\n%s", script, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
})

// find looks for the file in this folder and in those above it: go test runs in the
// package's folder, wherever the module is checked out.
func find(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", name, err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New(name + " is in no folder above this one; ESTUARY_TEST_POSTGRES may name a server instead")
	}
}

func run(server, statements string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol)
	return err
}
