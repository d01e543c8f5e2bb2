package audittest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

func (l *lab) accept(ctx context.Context) (audit.Accepted, error) {
	return audit.Accept(ctx, audit.AcceptConfig{
		DB: l.db, Chain: l.chain, File: l.file, Reason: "the disk was full", Now: func() time.Time { return l.pass(time.Second) },
	})
}

// accepted is a history that the service refuses.
type accepted struct {
	do   []string
	from int64
	// ended is the last record that is there.
	ended int64
	// found is how many problems stay, and first and what is the first of them.
	found, first int64
	what         string
	// exported is the first one by what was exported before, where it is another one.
	exported      string
	exportedFirst int64
}

var acceptances = map[string]accepted{
	"text":                {do: []string{flip + "28"}, ended: 30, found: 1, first: 28, what: "record 28 was altered"},
	"text, recomputed":    {do: []string{flip + "28"}, from: 28, ended: 30, found: 3, first: 28, what: "record 28 was altered"},
	"last hash":           {do: []string{`UPDATE audit_record SET hash = mac WHERE seq = 30`}, ended: 30, found: 1, first: 30, what: "record 30 was altered"},
	"no last hash":        {do: []string{`UPDATE audit_record SET hash = '' WHERE seq = 30`}, ended: 30, found: 1, first: 30, what: "record 30 was altered"},
	"last hash and MAC":   {do: []string{`UPDATE audit_record SET mac = hash, hash = mac WHERE seq = 30`}, ended: 30, found: 1, first: 30, what: "record 30 was altered"},
	"last time":           {do: []string{ahead + "30"}, ended: 30, found: 1, first: 30, what: "record 30 was altered"},
	"no MACs":             {do: []string{`UPDATE audit_record SET mac = NULL WHERE seq > 25`}, ended: 30, found: 5, first: 26, what: "record 26 was altered"},
	"deleted":             {do: []string{`DELETE FROM audit_record WHERE seq = 27`}, ended: 30, found: 1, first: 27, what: "record 27 is missing"},
	"cut":                 {do: cutAll, ended: 22, exportedFirst: 23, exported: "record 23 was cut off, before 'audit accept' went on with record 23"},
	"cut, signed":         {do: cut, ended: 22, exportedFirst: 23, exported: "record 23 was cut off, before"},
	"cut without head":    {do: []string{`DELETE FROM audit_record WHERE seq > 29`}, ended: 29, exportedFirst: 30, exported: "record 30 was cut off, before"},
	"empty":               {do: []string{`DELETE FROM audit_record`, `DELETE FROM audit_head`, `DELETE FROM audit_checkpoint`}, ended: 0, exportedFirst: 1, exported: "record 1 was cut off, before"},
	"head back":           {do: []string{`UPDATE audit_head SET seq = 29`}, ended: 30},
	"head ahead":          {do: []string{`UPDATE audit_head SET seq = 90`}, ended: 30},
	"head's hash":         {do: []string{`UPDATE audit_head SET hash = (SELECT hash FROM audit_record WHERE seq = 29)`}, ended: 30},
	"no head":             {do: []string{`DELETE FROM audit_head`}, ended: 30},
	"checkpoints":         {do: []string{`DELETE FROM audit_checkpoint`}, ended: 30, exportedFirst: 5, exported: "the checkpoint of record 5 is missing"},
	"last checkpoint":     {do: []string{`DELETE FROM audit_checkpoint WHERE seq = 25`}, ended: 30, exportedFirst: 25, exported: "the checkpoint of record 25 is missing"},
	"signature":           {do: []string{`UPDATE audit_checkpoint SET signature = hash WHERE seq = 25`}, ended: 30, found: 1, first: 25, what: "the checkpoint of record 25 is not signed"},
	"forged checkpoint":   {do: []string{forge + `30, 25` + forged}, ended: 30, found: 1, first: 30, what: "the checkpoint of record 30 is not signed"},
	"checkpoint behind":   {do: []string{forge + `90, 25` + forged}, ended: 30},
	"checkpoint in place": {do: []string{flip + "28", forge + `3, 25` + forged, forge + `-3, 30` + forged}, ended: 30, found: 1, first: 28, what: "record 28 was altered"},
	"added":               {do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 31, at, record, mac FROM audit_record WHERE seq = 12`}, ended: 31, found: 1, first: 31, what: "record 31 was altered"},
	"added far behind":    {do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 90, at, record, mac FROM audit_record WHERE seq = 12`}, ended: 90, found: 2, first: 31, what: "records 31 to 89 are missing"},
}

const (
	forge  = `INSERT INTO audit_checkpoint (seq, previous, hash, at, signature) SELECT `
	forged = `, hash, at, signature FROM audit_checkpoint WHERE seq = 25`
)

// A chain that is refused is accepted once, the service goes on, and what was altered is
// found for ever.
func TestAccept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		file, exported := l.read(t), bytes.Clone(l.out.Bytes())
		for name, c := range acceptances {
			t.Run(name, func(t *testing.T) {
				undo := l.snapshot(t)
				defer undo()
				l.exec(t, c.do...)
				if c.from > 0 {
					l.recompute(t, c.from)
				}
				l.write(t, file)
				l.restart(t)
				if _, err := l.keeper(t.Context()); !errors.Is(err, audit.ErrRolledBack) && !errors.Is(err, audit.ErrTampered) {
					t.Fatalf("not refused: %v", err)
				}
				l.restart(t)
				a, err := l.accept(t.Context())
				if err != nil || a.Cause == nil || a.Report.Found == 0 || a.Ended != c.ended || a.Seq != c.ended+1 {
					t.Fatalf("%+v, %v", a, err)
				}
				l.told(t, a)
				l.goesOn(t, a)
				c.compare(t, l, exported)
			})
		}
	})
}

func (l *lab) read(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (l *lab) write(t *testing.T, text []byte) {
	t.Helper()
	if err := os.WriteFile(l.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// told looks at the record of an acceptance, and at its checkpoint.
func (l *lab) told(t *testing.T, a audit.Accepted) {
	t.Helper()
	var out bytes.Buffer
	if err := audit.Export(t.Context(), l.db, a.Ended, &out); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`"event":"audit.accepted","outcome":"success","actor":"operator","reason":"the disk was full"`,
		fmt.Sprintf(`"ended":"%d","file":"25","first":"%s","problems":"%d"`, a.Ended, a.Report.Problems[0].What, a.Report.Found),
		fmt.Sprintf(`{"checkpoint":{"seq":%d,"previous":`, a.Seq),
	} {
		if strings.Count(out.String(), text) != 1 {
			t.Errorf("%s is not in %s", text, out.String())
		}
	}
	if l.saved(t, l.file) != a.Seq {
		t.Errorf("the file has the checkpoint of %d", l.saved(t, l.file))
	}
}

// goesOn runs the service on an accepted chain, and accepts it again.
func (l *lab) goesOn(t *testing.T, a audit.Accepted) {
	t.Helper()
	before := l.count(t)
	l.restart(t)
	k, err := l.keeper(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if newest, err := l.chain.NewestTime(t.Context(), l.db); err != nil || !newest.Equal(l.pass(0)) {
		t.Errorf("the newest time: %v, %v", newest, err)
	}
	l.append(t, 3)
	l.round(t, k)
	if err := k.Check(t.Context()); err != nil || l.count(t) != before+1 || l.saved(t, l.file) != a.Seq+3 {
		t.Errorf("%v, %d checkpoints, not %d; %d in the file", err, l.count(t), before+1, l.saved(t, l.file))
	}
	l.restart(t)
	again, err := l.accept(t.Context())
	if err != nil || again.Cause != nil || again.Seq != 0 || l.count(t) != before+1 || l.saved(t, l.file) != a.Seq+3 {
		t.Errorf("again: %+v, %v", again, err)
	}
	l.keep(t)
}

// compare verifies by what is there, and by what is known from before.
func (c accepted) compare(t *testing.T, l *lab, exported []byte) {
	t.Helper()
	r := l.verify(t, l.known(t))
	if r.Found != c.found {
		t.Errorf("%d problems, not %d: %+v", r.Found, c.found, r.Problems)
	}
	l.expect(t, c.first, c.what, r)
	if c.exported == "" {
		c.exportedFirst, c.exported = c.first, c.what
	}
	l.expect(t, c.exportedFirst, c.exported, l.verify(t, l.known(t), func(v *audit.VerifyConfig) { v.Lines = audit.ReadLines(bytes.NewReader(exported)) }))
}

// After the restore of an older database everybody who has seen more can say what is gone.
func TestAcceptRestore(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := signed(t, opener())
		restore := l.snapshot(t)
		l.append(t, 7)
		l.keep(t)
		known := l.known(t)
		exported := bytes.Clone(l.out.Bytes())
		restore()
		l.restart(t)
		if _, err := l.keeper(t.Context()); !errors.Is(err, audit.ErrRolledBack) {
			t.Fatal(err)
		}
		l.restart(t)
		a, err := l.accept(t.Context())
		if err != nil || !errors.Is(a.Cause, audit.ErrRolledBack) || a.Seq != 26 {
			t.Fatalf("%+v, %v", a, err)
		}
		lines := func(v *audit.VerifyConfig) {
			v.Lines = audit.ReadLines(bytes.NewReader(append(bytes.Clone(exported), exported...)))
		}
		l.expect(t, 27, "the chain ends at record 26, but a checkpoint of 2026-11-22T12:00:27Z says 32: 6 records were cut off", l.verify(t, known))
		l.restart(t)
		l.keep(t)
		l.append(t, 10)
		l.restart(t)
		l.keep(t)
		l.expect(t, 0, "", l.verify(t, l.known(t)))
		l.expect(t, 26, "the records 26 to 32 that a known checkpoint of 2026-11-22T12:00:27Z signs were cut off, before 'audit accept' went on with record 26", l.verify(t, known))
		r := l.verify(t, lines) // exported twice, named once
		for n, p := range r.Problems[:7] {
			if want := fmt.Sprintf("record %d was cut off, before 'audit accept' went on with record 26: another one was exported", 26+n); p.What != want && p.Seq != 32 {
				t.Errorf("%q, not %q", p.What, want)
			}
		}
		l.exec(t, flip+"28") // is no cut
		r = l.verify(t, lines)
		if !strings.Contains(fmt.Sprint(r.Problems), "record 28 was altered: another one was exported") {
			t.Errorf("%+v", r.Problems)
		}
	})
}

// A chain that the service goes on with is left alone, even if something is wrong with it.
func TestNothingToAccept(t *testing.T) {
	l := history(t, storetest.Open(t, storetest.SQLite(t)))
	for _, found := range []int64{0, 1} {
		a, err := l.accept(t.Context())
		if err != nil || a.Cause != nil || a.Seq != 0 || a.Report.Found != found || l.saved(t, l.file) != 25 || l.verify(t).Records != 30 {
			t.Errorf("%+v, %v", a, err)
		}
		l.exec(t, flip+"12")
	}
	if err := os.Remove(l.file); err != nil {
		t.Fatal(err)
	}
	if a, err := l.accept(t.Context()); err != nil || a.Cause != nil {
		t.Errorf("without a file: %+v, %v", a, err)
	}
	if _, err := audit.Accept(t.Context(), audit.AcceptConfig{DB: l.db, Chain: l.chain, File: l.file}); err == nil {
		t.Error("without a reason")
	}
}

// The time of the newest record that was not altered is not undercut.
func TestAcceptKeepsTime(t *testing.T) {
	l := history(t, storetest.Open(t, storetest.SQLite(t)))
	before := l.pass(0)
	l.exec(t, flip+"28")
	l.pass(-time.Hour)
	if _, err := l.accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if newest, err := l.chain.NewestTime(t.Context(), l.db); err != nil || !newest.Equal(before) {
		t.Errorf("%v, not %v: %v", newest, before, err)
	}
}

// A newest record whose time cannot be believed is in the way even where a checkpoint
// covers it: the clock does not start.
func TestAcceptTime(t *testing.T) {
	l := history(t, storetest.Open(t, storetest.SQLite(t)))
	l.keep(t)
	l.exec(t, ahead+"30")
	a, err := l.accept(t.Context())
	if err != nil || !errors.Is(a.Cause, audit.ErrTampered) || a.Seq != 31 {
		t.Fatalf("%+v, %v", a, err)
	}
	l.goesOn(t, a)
	r := l.verify(t, l.known(t))
	if l.expect(t, 30, "its time is not the one in its text", r); r.Found != 1 {
		t.Errorf("%+v", r)
	}
}

// A file that cannot be written, and a process that goes on recording meanwhile.
func TestAcceptCannot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		l.exec(t, cutAll...)
		l.restart(t)
		meddling := &meddler{DB: l.db, meddle: func() { l.append(t, 1) }}
		_, err := audit.Accept(t.Context(), audit.AcceptConfig{DB: meddling, Chain: l.chain, File: l.file, Reason: "x"})
		if err == nil || !strings.Contains(err.Error(), "stop every process of this database") || l.saved(t, l.file) != 25 || l.verify(t).Records != 23 {
			t.Errorf("beside another process: %v", err)
		}
		if err := os.MkdirAll(l.file+".new/full", 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := l.accept(t.Context())
		if err == nil || a.Seq != 24 || l.saved(t, l.file) != 25 {
			t.Errorf("without room for the file: %+v, %v", a, err)
		}
		if err := os.RemoveAll(l.file + ".new"); err != nil {
			t.Fatal(err)
		}
		if a, err := l.accept(t.Context()); err != nil || a.Seq != 25 {
			t.Errorf("again: %+v, %v", a, err)
		}
		l.restart(t)
		l.keep(t)
		l.expect(t, 0, "", l.verify(t, l.known(t)))
	})
}

// meddler does something before the first write.
type meddler struct {
	*store.DB
	meddle func()
}

func (m *meddler) Write(ctx context.Context, fn store.Func) error {
	m.meddle()
	return m.DB.Write(ctx, fn)
}
