package auditcmd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/auditcmd"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// lab is an audit chain that somebody has written.
type lab struct {
	t     *testing.T
	db    *store.DB
	chain *audit.Chain
	file  string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, db: storetest.Open(t, storetest.SQLite(t)), file: filepath.Join(t.TempDir(), "checkpoint")}
	var err error
	if l.chain, err = audit.NewChain(secret.New(make([]byte, audit.KeySize))); err != nil {
		t.Fatal(err)
	}
	if err := l.db.Migrate(t.Context(), fstest.MapFS{
		"0001_audit.sql": {Data: []byte(audit.Schema)}, "0002_checkpoints.sql": {Data: []byte(audit.SchemaCheckpoints)},
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) add(at time.Time) {
	l.t.Helper()
	err := l.db.Write(l.t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := l.chain.Append(ctx, tx, audit.Record{Time: at, Event: "test.done"})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// run runs a sub-command, and tells whether it asked to write.
func (l *lab) run(words string, args ...string) (out string, wrote bool, err error) {
	l.t.Helper()
	open := func(_ context.Context, path string, write bool) (auditcmd.Place, error) {
		if path != "some.toml" {
			return auditcmd.Place{}, errors.New("another file was opened")
		}
		wrote = write
		return auditcmd.Place{DB: l.db, Chain: l.chain, File: l.file, Close: func() error { return nil }}, nil
	}
	for _, c := range auditcmd.Commands(open) {
		if c.Words == words {
			var b bytes.Buffer
			err = c.Run(l.t.Context(), append([]string{"--config", "some.toml"}, args...), &b)
			return b.String(), wrote, err
		}
	}
	l.t.Fatalf("there is no command %s", words)
	return "", false, nil
}

func TestVerifyAndExport(t *testing.T) {
	l := newLab(t)
	out, wrote, err := l.run("audit verify")
	if err != nil || wrote || !strings.Contains(out, "records: 0, none yet; checkpoints: 0; nothing was altered") {
		t.Errorf("an empty chain: %q, %v", out, err)
	}
	for range 3 {
		l.add(time.Now())
	}
	exported, _, err := l.run("audit export", "--after", "1")
	if err != nil || strings.Count(exported, "\n") != 2 {
		t.Fatalf("exported %q, %v", exported, err)
	}
	stream := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(stream, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := l.run("audit verify", "--stream", stream, "--stream", stream); err != nil || !strings.Contains(out, "records: 3") {
		t.Errorf("%q, %v", out, err)
	}
	if err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE audit_record SET record = record || ' ' WHERE seq = 2`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out, _, err = l.run("audit verify")
	if err == nil || !strings.Contains(out, "record 2 was altered") || !strings.Contains(err.Error(), "problems found: 1, records: 3") {
		t.Errorf("%q, %v", out, err)
	}
	for _, args := range [][]string{{"--checkpoint", "nowhere"}, {"--stream", "nowhere"}} {
		if _, _, err := l.run("audit verify", args...); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestKey(t *testing.T) {
	l := newLab(t)
	if out, wrote, err := l.run("audit key"); err != nil || wrote || len(out) != 45 {
		t.Errorf("%q, %v", out, err)
	}
}

// A record of a clock that was wrong keeps time standing still no longer than until somebody
// says so, and that is on record.
func TestClockReset(t *testing.T) {
	l := newLab(t)
	l.add(time.Now().Add(-time.Hour))
	if out, _, err := l.run("clock reset", "--reason", "x"); err != nil || !strings.Contains(out, "nothing to do") {
		t.Errorf("%q, %v", out, err)
	}
	l.add(time.Now().AddDate(1, 0, 0))
	if _, _, err := l.run("clock reset"); err == nil || !strings.Contains(err.Error(), "usage: clock reset") {
		t.Errorf("without a reason: %v", err)
	}
	before := time.Now().Truncate(time.Microsecond)
	out, wrote, err := l.run("clock reset", "--reason", "signer-2 had a bad clock")
	if err != nil || !wrote || !strings.Contains(out, "time goes on from") {
		t.Fatalf("%q, %v", out, err)
	}
	newest, err := l.chain.NewestTime(t.Context(), l.db)
	if err != nil || newest.Before(before) || newest.After(time.Now()) {
		t.Errorf("the newest record is of %v, %v", newest, err)
	}
	exported, _, err := l.run("audit export", "--after", "2")
	if err != nil || !strings.Contains(exported, `"event":"clock.reset"`) || !strings.Contains(exported, "signer-2 had a bad clock") {
		t.Errorf("recorded %q, %v", exported, err)
	}
}

// A chain that the service refuses is accepted by who gives a reason; what is wrong is shown.
func TestAccept(t *testing.T) {
	l := newLab(t)
	for range 3 {
		l.add(time.Now())
	}
	if out, _, err := l.run("audit accept", "--reason", "x"); err != nil || out != "the service goes on with this chain as it is: nothing to accept\n" {
		t.Errorf("%q, %v", out, err)
	}
	alter := func(statement string) {
		t.Helper()
		if err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := tx.Exec(ctx, statement)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	alter(`UPDATE audit_record SET record = record || ' ' WHERE seq = 2`)
	if _, _, err := l.run("audit accept"); err == nil || !strings.Contains(err.Error(), "usage: audit accept --config FILE --reason TEXT") {
		t.Errorf("without a reason: %v", err)
	}
	out, wrote, err := l.run("audit accept", "--reason", "a disk that lost a sector")
	want := "record 2 was altered: its hash does not follow from its text and the record before it\n" +
		"accepted: the chain ended at record 3 and goes on with record 4; problems found: 1; start the service again\n"
	if err != nil || !wrote || out != want {
		t.Errorf("%q, %v", out, err)
	}
	if out, _, err := l.run("audit verify"); err == nil || !strings.HasPrefix(out, "record 2 was altered") || !strings.Contains(err.Error(), "problems found: 1, records: 4") {
		t.Errorf("verified: %q, %v", out, err)
	}
	alter(`DELETE FROM audit_record WHERE seq > 2`)
	alter(`UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_record WHERE seq = 2)`)
	out, _, err = l.run("audit accept", "--reason", "the backup of today")
	for _, text := range []string{"but a checkpoint of ", "records are gone: credentials that were used since then could be used again\naccepted: the chain ended at record 2 and goes on with record 3"} {
		if err != nil || !strings.Contains(out, text) {
			t.Errorf("%q, %v, does not say %q", out, err, text)
		}
	}
	exported, _, err := l.run("audit export", "--after", "2")
	if err != nil || !strings.Contains(exported, `"event":"audit.accepted"`) || !strings.Contains(exported, "the backup of today") {
		t.Errorf("recorded %q, %v", exported, err)
	}
}
