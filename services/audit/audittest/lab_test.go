package audittest_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
)

// lab is a chain in a database, with its keeper's surroundings.
type lab struct {
	db       *store.DB
	chain    *audit.Chain
	out, log *bytes.Buffer
	stream   *audit.Stream
	file     string
	metrics  *metrics.Set

	mu  sync.Mutex
	now time.Time // guarded by mu
}

func newLab(t testing.TB, db *store.DB) *lab {
	t.Helper()
	files := fstest.MapFS{
		"0001_audit.sql":       {Data: []byte(audit.Schema)},
		"0002_checkpoints.sql": {Data: []byte(audit.SchemaCheckpoints)},
	}
	if err := db.Migrate(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	l := &lab{db: db, file: filepath.Join(t.TempDir(), "checkpoint"), now: at, out: new(bytes.Buffer), log: new(bytes.Buffer)}
	l.restart(t)
	return l
}

// restart forgets what the process knows.
func (l *lab) restart(t testing.TB) {
	t.Helper()
	l.chain = newChain(t, 1)
	l.stream = audit.NewStream(l.out)
}

func newChain(t testing.TB, key byte) *audit.Chain {
	t.Helper()
	c, err := audit.NewChain(secret.New(bytes.Repeat([]byte{key}, audit.KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pass lets time pass, and returns the time.
func (l *lab) pass(d time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
	return l.now
}

func (l *lab) keeper(ctx context.Context) (*audit.Keeper, error) {
	l.metrics = metrics.NewSet()
	return audit.NewKeeper(ctx, audit.KeeperConfig{
		DB: l.db, Chain: l.chain, Stream: l.stream, File: l.file, Metrics: l.metrics,
		Log: slog.New(slog.NewTextHandler(l.log, nil)), Now: func() time.Time { return l.pass(0) },
	})
}

// keep lets a keeper live for one round, the one at its end.
func (l *lab) keep(t testing.TB) *audit.Keeper {
	t.Helper()
	k, err := l.keeper(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.round(t, k)
	return k
}

func (l *lab) round(t testing.TB, k *audit.Keeper) {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Run(ended); err != nil {
		t.Fatal(err)
	}
	if err := audittest.Flush(l.stream); err != nil {
		t.Fatal(err)
	}
}

// append adds n records, a second apart.
func (l *lab) append(t testing.TB, n int) {
	t.Helper()
	for range n {
		if err := l.try(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// try adds one.
func (l *lab) try(ctx context.Context) error {
	var e audit.Entry
	err := l.db.Write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		now := l.pass(time.Second)
		e, err = l.chain.Append(ctx, tx, audit.Record{Time: now, Event: "test.done", Reason: fmt.Sprint("at ", now)})
		return err
	})
	if err != nil {
		return err
	}
	l.chain.Committed(e)
	return l.stream.Emit(e)
}

// exec runs statements behind the chain's back.
func (l *lab) exec(t testing.TB, statements ...string) {
	t.Helper()
	err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// recompute makes the hashes from record k on, and the head, what they would be: anybody
// can, who can write to the database.
func (l *lab) recompute(t testing.TB, k int64) {
	t.Helper()
	type row struct {
		seq    int64
		record string
	}
	err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		previous := make([]byte, 32)
		if k > 1 {
			if err := tx.QueryRow(ctx, `SELECT hash FROM audit_record WHERE seq = $1`, k-1).Scan(&previous); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, `SELECT seq, record FROM audit_record WHERE seq >= $1 ORDER BY seq`, k)
		if err != nil {
			return err
		}
		var all []row
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.seq, &r.record); err != nil {
				return err
			}
			all = append(all, r)
		}
		if err := rows.Close(); err != nil {
			return err
		}
		for _, r := range all {
			hash := audit.Link(previous, r.seq, []byte(r.record))
			previous = hash[:]
			if _, err := tx.Exec(ctx, `UPDATE audit_record SET hash = $1 WHERE seq = $2`, previous, r.seq); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE audit_head SET seq = $1, hash = $2`, r.seq, previous); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// verify runs Verify with everything that is known but what the caller changes.
func (l *lab) verify(t testing.TB, change ...func(*audit.VerifyConfig)) audit.Report {
	t.Helper()
	c := audit.VerifyConfig{DB: l.db, Chain: newChain(t, 1)}
	for _, f := range change {
		f(&c)
	}
	report, err := audit.Verify(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// known adds the checkpoint of the file.
func (l *lab) known(t testing.TB) func(*audit.VerifyConfig) {
	t.Helper()
	c, exists, err := audit.ReadCheckpoint(l.file, l.chain.Public())
	if err != nil || !exists {
		t.Fatalf("no checkpoint: %v", err)
	}
	return func(v *audit.VerifyConfig) { v.Known = append(v.Known, c) }
}

// lines adds what was streamed.
func (l *lab) lines(v *audit.VerifyConfig) { v.Lines = audit.ReadLines(bytes.NewReader(l.out.Bytes())) }

// keyless takes the MAC key away.
func keyless(v *audit.VerifyConfig) {
	v.Public, v.Chain = append(ed25519.PublicKey{}, v.Chain.Public()...), nil
}
