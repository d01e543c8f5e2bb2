package audittest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// count returns how many checkpoints there are.
func (l *lab) count(t *testing.T) (n int) {
	t.Helper()
	if err := l.db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM audit_checkpoint`).Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// saved returns the record of the checkpoint in a file.
func (l *lab) saved(t *testing.T, file string) int64 {
	t.Helper()
	c, _, err := audit.ReadCheckpoint(file, l.chain.Public())
	if err != nil {
		t.Fatal(err)
	}
	return c.Seq
}

func (l *lab) measured() string {
	var b bytes.Buffer
	l.metrics.WritePrometheus(&b)
	return strings.TrimSpace(b.String())
}

// A keeper signs what is new, once, in the database, in the file and on the stream; of two
// keepers the slower one takes over what the faster one made.
func TestKeeper(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		k := l.keep(t)
		if l.count(t) != 0 || l.out.Len() != 0 {
			t.Error("a checkpoint of nothing")
		}
		l.append(t, 3)
		first := l.file
		l.file = filepath.Join(t.TempDir(), "other")
		other := l.keep(t)
		l.file = first
		for range 2 {
			l.round(t, k)
		}
		if l.count(t) != 1 || strings.Count(l.out.String(), `{"checkpoint":{"seq":3,"previous":0,"hash":"`) != 1 || l.saved(t, first) != 3 {
			t.Errorf("%d checkpoints, %d in the file:\n%s", l.count(t), l.saved(t, first), l.out.String())
		}
		if info, err := os.Stat(first); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", info.Mode(), err)
		}
		for _, k := range []*audit.Keeper{k, other} {
			if err := k.Check(t.Context()); err != nil || l.measured() != "estuary_audit_tampered 0" {
				t.Errorf("%v, %s", err, l.measured())
			}
		}
		l.restart(t)
		l.append(t, 1)
		l.keep(t)
		if l.count(t) != 2 || l.saved(t, first) != 4 || l.log.Len() > 0 {
			t.Errorf("after a restart: %d checkpoints, %d in the file, %s", l.count(t), l.saved(t, first), l.log)
		}
	})
}

// wayOut is what every error says that stops a service.
const wayOut = ": run 'audit verify' to see it, and 'audit accept' once it is understood"

// stops are the alterations of history that stop the service.
var stops = map[string]struct {
	do   []string
	from int64
	what string
}{
	"text":             {do: []string{flip + "28"}, what: "record 28 was altered"},
	"text, recomputed": {do: []string{flip + "28"}, from: 28, what: "record 28 was altered"},
	"deleted":          {do: []string{`DELETE FROM audit_record WHERE seq = 27`}, what: "record 27 is missing"},
	"MAC":              {do: []string{`UPDATE audit_record SET mac = NULL WHERE seq = 29`}, what: "record 29 was altered: it has no MAC"},
	"cut":              {do: cut, what: "the database ends at record 22"},
	"cut, all":         {do: cutAll, what: "the database ends at record 22"},
	"checkpoint":       {do: []string{`DELETE FROM audit_checkpoint WHERE seq = 25`}, what: "the checkpoint of record 25 is missing"},
	"no MACs":          {do: []string{flip + "28", `UPDATE audit_record SET mac = NULL WHERE seq > 25`}, from: 28, what: "record 26 was altered: it has no MAC"},
	"forged": {do: []string{`INSERT INTO audit_checkpoint (seq, previous, hash, at, signature)
 SELECT 30, 25, (SELECT hash FROM audit_record WHERE seq = 30), at, signature FROM audit_checkpoint WHERE seq = 25`}, what: "the checkpoint of record 30 is not signed"},
	"signature": {do: []string{`UPDATE audit_checkpoint SET signature = (SELECT signature FROM audit_checkpoint WHERE seq = 20) WHERE seq = 25`}, what: "the checkpoint of record 25 is not signed"},
	"head":      {do: []string{`UPDATE audit_head SET hash = (SELECT hash FROM audit_record WHERE seq = 29)`}, what: "another hash than record 30"},
	"behind":    {do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 31, at, record, mac FROM audit_record WHERE seq = 12`}, what: "record 31 was added"},
	"empty":     {do: []string{`DELETE FROM audit_record`, `DELETE FROM audit_head`, `DELETE FROM audit_checkpoint`}, what: "the database ends at record 0"},
}

// What is wrong behind the last checkpoint stops the service, and is named.
func TestKeeperFindsAlteration(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := signed(t, opener())
		for name, c := range stops {
			t.Run(name, func(t *testing.T) {
				undo := l.snapshot(t)
				defer undo()
				l.restart(t)
				k, err := l.keeper(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				l.append(t, 5)
				l.exec(t, c.do...)
				if c.from > 0 {
					l.recompute(t, c.from)
				}
				before := l.count(t)
				l.log.Reset()
				l.round(t, k)
				for who, err := range map[string]error{"Check": k.Check(t.Context()), "Append": l.try(t.Context())} {
					l.stopped(t, who, c.what, err)
				}
				if l.count(t) != before || l.measured() != "estuary_audit_tampered 1" || strings.Count(l.log.String(), "level=ERROR") != 1 || !strings.Contains(l.log.String(), wayOut) {
					t.Errorf("%d checkpoints, not %d; %s; %s", l.count(t), before, l.measured(), l.log)
				}
			})
		}
	})
}

// stopped expects the error of a chain that cannot be trusted.
func (*lab) stopped(t *testing.T, who, what string, err error) {
	t.Helper()
	if !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrRolledBack) || !strings.Contains(err.Error(), what) || !strings.HasSuffix(err.Error(), wayOut) {
		t.Errorf("%s: %v, want %q", who, err, what)
	}
}

// It stops the start as well: nothing is served on it, and nothing is signed.
func TestKeeperRefusesAlteration(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		for name, c := range stops {
			t.Run(name, func(t *testing.T) {
				undo := l.snapshot(t)
				defer undo()
				l.exec(t, c.do...)
				if c.from > 0 {
					l.recompute(t, c.from)
				}
				before := l.count(t)
				for range 2 { // the first one lets the file go
					l.restart(t)
					_, err := l.keeper(t.Context())
					l.stopped(t, "NewKeeper", c.what, err)
				}
				if l.count(t) != before || l.saved(t, l.file) != 25 {
					t.Errorf("%d checkpoints, not %d; %d in the file", l.count(t), before, l.saved(t, l.file))
				}
			})
		}
	})
}

// A service whose database was set back while it was down does not start.
func TestKeeperRefusesOlderDatabase(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		l.exec(t, cutAll...)
		l.restart(t)
		_, err := l.keeper(t.Context())
		if !errors.Is(err, audit.ErrRolledBack) {
			t.Fatal(err)
		}
		for _, part := range []string{"the database ends at record 22", "the checkpoint of 2026-11-22T12:00:20Z in " + l.file + " says 25", "could be used again", wayOut} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("does not say %q: %v", part, err)
			}
		}
		l.restart(t)
		l.append(t, 3) // as long as before, with another record 25
		l.restart(t)
		if _, err := l.keeper(t.Context()); !errors.Is(err, audit.ErrRolledBack) || !strings.Contains(err.Error(), "record 25 of the database is not the one") {
			t.Error(err)
		}
		l.restart(t)
		if err := os.Rename(l.file, l.file+".away"); err != nil {
			t.Fatal(err)
		}
		k := l.keep(t)
		l.append(t, 1)
		if err := k.Check(t.Context()); err != nil || l.saved(t, l.file) != 25 {
			t.Errorf("a wanted restore: %v, %d", err, l.saved(t, l.file))
		}
	})
}

func TestKeeperRefusesFile(t *testing.T) {
	l := history(t, storetest.Open(t, storetest.SQLite(t)))
	good, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"empty":     {},
		"no JSON":   []byte("checkpoint"),
		"none":      []byte(`{"checkpoint":null}`),
		"cut":       good[:len(good)/2],
		"two":       append(bytes.Clone(good), good...),
		"long":      bytes.Repeat([]byte(" "), 1<<20),
		"altered":   bytes.Replace(good, []byte(`"seq":25`), []byte(`"seq":26`), 1),
		"no number": bytes.Replace(good, []byte(`"seq":25`), []byte(`"seq":-25`), 1),
	} {
		if err := os.WriteFile(l.file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.keeper(t.Context()); err == nil || !strings.Contains(err.Error(), l.file) || errors.Is(err, audit.ErrRolledBack) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(l.file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	l.chain = newChain(t, 2)
	if _, err := l.keeper(t.Context()); err == nil || !strings.Contains(err.Error(), l.file) {
		t.Errorf("another service's: %v", err)
	}
}

// A store or a file that cannot be written is no alteration: Check waits, and forgives.
func TestKeeperCannotWrite(t *testing.T) {
	l := newLab(t, storetest.Open(t, storetest.SQLite(t)))
	l.file = filepath.Join(t.TempDir(), "none", "checkpoint")
	if _, err := l.keeper(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file's folder: %v", err)
	}
	if err := os.MkdirAll(l.file+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	l.append(t, 1)
	if _, err := l.keeper(t.Context()); err == nil || !strings.Contains(err.Error(), "saving the audit checkpoint") {
		t.Errorf("without room for the file: %v", err)
	}
	if err := os.RemoveAll(l.file + ".new"); err != nil {
		t.Fatal(err)
	}
	k, err := l.keeper(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.append(t, 1)
	if err := os.RemoveAll(filepath.Dir(l.file)); err != nil {
		t.Fatal(err)
	}
	l.round(t, k)
	if err := k.Check(t.Context()); err != nil || !strings.Contains(l.log.String(), "no audit checkpoint was made") {
		t.Errorf("at once: %v, %s", err, l.log)
	}
	l.pass(5*time.Minute + time.Second)
	if err := k.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "at record 2, its newest checkpoint at 1") {
		t.Errorf("late: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(l.file), 0o700); err != nil {
		t.Fatal(err)
	}
	l.round(t, k)
	if err := k.Check(t.Context()); err != nil || l.saved(t, l.file) != 2 {
		t.Errorf("again: %v, %d", err, l.saved(t, l.file))
	}
	l.pass(time.Hour)
	if err := k.Check(t.Context()); err != nil {
		t.Errorf("with nothing new: %v", err)
	}
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	l.round(t, k)
	if err := k.Check(t.Context()); err != nil || l.measured() != "estuary_audit_tampered 0" {
		t.Errorf("closed: %v", err)
	}
}

// A checkpoint is made at the start, every minute, after a thousand records and at the end.
func TestKeeperRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.Open(t, storetest.SQLite(t))
		l := newLab(t, db)
		l.append(t, 1)
		k, err := l.keeper(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }() // ends with cancel
		wait := func(d time.Duration) int {
			time.Sleep(d)
			synctest.Wait()
			return l.count(t)
		}
		if n := l.count(t); n != 1 {
			t.Errorf("%d at the start", n)
		}
		l.append(t, 1)
		if n := wait(59 * time.Second); n != 1 {
			t.Errorf("%d before a minute", n)
		}
		if n := wait(2 * time.Second); n != 2 {
			t.Errorf("%d after a minute", n)
		}
		l.append(t, 999)
		if n := wait(time.Millisecond); n != 2 {
			t.Errorf("%d after 999 records", n)
		}
		l.append(t, 1)
		if n := wait(time.Millisecond); n != 3 {
			t.Errorf("%d after 1000 records", n)
		}
		l.append(t, 1)
		cancel()
		if err := <-ended; err != nil || l.count(t) != 4 {
			t.Errorf("%d at the end, %v", l.count(t), err)
		}
		if err := audittest.Flush(l.stream); err != nil {
			t.Error(err)
		}
		if r := l.verify(t, l.known(t), l.lines); r.Found != 0 || r.Records != 1003 || r.Checkpoints != 4 {
			t.Errorf("%+v", r)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A process that dies between a commit and its line leaves a record that is not on the stream:
// the next one puts there what has come since the newest checkpoint, and no more than a
// thousand.
func TestRepeatsLines(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		l.append(t, 3)
		l.keep(t)
		l.append(t, 2)
		l.restart(t) // with whatever waited for the stream
		l.out.Reset()
		l.keep(t)
		if err := audittest.Flush(l.stream); err != nil {
			t.Fatal(err)
		}
		var got []int64
		for line, err := range audit.ReadLines(bytes.NewReader(l.out.Bytes())) {
			if err != nil {
				t.Fatal(err)
			}
			if line.Checkpoint == nil {
				got = append(got, line.Seq)
			}
		}
		if fmt.Sprint(got) != "[4 5]" {
			t.Errorf("records %v are on the stream again, not 4 and 5", got)
		}
	})
}
