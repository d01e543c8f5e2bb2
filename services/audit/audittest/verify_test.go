package audittest_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// history is a chain of 30 records whose first 5 have no MAC, with checkpoints of the
// records 5, 10, 20 and 25. The last is in the file, and all is on the stream.
func history(t *testing.T, db *store.DB) *lab {
	t.Helper()
	l := signed(t, db)
	l.append(t, 5)
	if err := audittest.Flush(l.stream); err != nil {
		t.Fatal(err)
	}
	return l
}

// signed is the same without the last 5 records.
func signed(t *testing.T, db *store.DB) *lab {
	t.Helper()
	l := newLab(t, db)
	for range 5 {
		var e audit.Entry
		if err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
			if e, err = l.chain.Append(ctx, tx, audit.Record{Time: l.pass(0), Event: "test.legacy"}); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE audit_record SET mac = NULL WHERE seq = $1`, e.Seq)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := l.stream.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
	k := l.keep(t)
	for _, n := range []int{5, 10, 5} {
		l.append(t, n)
		l.round(t, k)
	}
	return l
}

// alteration is what somebody with the database, and without the MAC key, may do.
type alteration struct {
	name string
	do   []string
	// from is where the hashes are computed anew, 0 where they are not.
	from int64
	// first is the record that must be named first, and what must be said of it; what
	// is "" where nothing can be found.
	first int64
	what  string
	// known and exported are the same with the checkpoint of the file, or with the exported
	// stream; "" where it makes no difference.
	known, exported string
	// keyless is the first record with neither MAC key nor export, where it is another one;
	// -1 where nothing can be found.
	keyless int64
}

const flip = `UPDATE audit_record SET record = replace(record, 'test.done', 'test.dome') WHERE seq = `

// shift deletes record 12 and closes the gap.
var shift = []string{
	`DELETE FROM audit_record WHERE seq = 12`,
	`UPDATE audit_record SET seq = -seq WHERE seq > 12`,
	`UPDATE audit_record SET seq = -seq - 1 WHERE seq < 0`,
	`UPDATE audit_head SET seq = seq - 1`,
}

// swap exchanges the records 12 and 13.
var swap = []string{
	`UPDATE audit_record SET seq = -seq WHERE seq IN (12, 13)`,
	`UPDATE audit_record SET seq = 25 + seq WHERE seq < 0`,
}

// added puts a copy of record 12 behind it.
var added = []string{
	`UPDATE audit_record SET seq = -seq WHERE seq > 12`,
	`UPDATE audit_record SET seq = -seq + 1 WHERE seq < 0`,
	`INSERT INTO audit_record (seq, at, record, hash, mac) SELECT 13, at, record, mac, mac FROM audit_record WHERE seq = 12`,
	`UPDATE audit_head SET seq = seq + 1`,
}

// cut takes the records from 23 on, cutAll the checkpoint of 25 with them.
var (
	cut = []string{
		`DELETE FROM audit_record WHERE seq > 22`,
		`UPDATE audit_head SET seq = 22, hash = (SELECT hash FROM audit_record WHERE seq = 22)`,
	}
	cutAll = append([]string{`DELETE FROM audit_checkpoint WHERE seq > 22`}, cut...)
)

var alterations = []alteration{
	{name: "nothing"},
	{name: "text", do: []string{flip + "12"}, first: 12, what: "record 12 was altered"},
	{name: "text, recomputed", do: []string{flip + "12"}, from: 12, first: 12, what: "record 12 was altered", keyless: 11},
	{name: "text before the MACs", do: []string{`UPDATE audit_record SET record = replace(record, 'legacy', 'lagacy') WHERE seq = 3`}, first: 3, what: "record 3 was altered"},
	{name: "text before the MACs, recomputed", do: []string{`UPDATE audit_record SET record = replace(record, 'legacy', 'lagacy') WHERE seq = 3`}, from: 3, first: 1, what: "the records 1 to 5 are not those that the checkpoint"},
	{name: "text in the tail", do: []string{flip + "28"}, first: 28, what: "record 28 was altered"},
	{name: "text in the tail, recomputed", do: []string{flip + "28"}, from: 28, first: 28, what: "record 28 was altered", keyless: -1},
	{name: "last text, recomputed", do: []string{flip + "30"}, from: 30, first: 30, what: "record 30 was altered", keyless: -1},
	{name: "time", do: []string{`UPDATE audit_record SET at = at + 1 WHERE seq = 12`}, first: 12, what: "its time is not the one in its text"},
	{name: "hash", do: []string{`UPDATE audit_record SET hash = (SELECT mac FROM audit_record WHERE seq = 12) WHERE seq = 12`}, first: 12, what: "record 12 was altered"},
	{name: "deleted", do: []string{`DELETE FROM audit_record WHERE seq = 12`}, first: 12, what: "record 12 is missing"},
	{name: "several deleted", do: []string{`DELETE FROM audit_record WHERE seq >= 12 AND seq <= 14`}, first: 12, what: "records 12 to 14 are missing"},
	{name: "the first deleted", do: []string{`DELETE FROM audit_record WHERE seq <= 2`}, first: 1, what: "records 1 to 2 are missing"},
	{name: "deleted with a checkpoint", do: []string{`DELETE FROM audit_record WHERE seq = 20`}, first: 20, what: "record 20 is missing"},
	{name: "deleted, closed", do: shift, first: 12, what: "record 12 was altered"},
	{name: "deleted, closed, recomputed", do: shift, from: 12, first: 12, what: "record 12 was altered", keyless: 11},
	{name: "swapped", do: swap, first: 12, what: "record 12 was altered"},
	{name: "swapped, recomputed", do: swap, from: 12, first: 12, what: "record 12 was altered", keyless: 11},
	{name: "inserted", do: added, first: 13, what: "record 13 was altered"},
	{name: "inserted, recomputed", do: added, from: 13, first: 13, what: "record 13 was altered", keyless: 11},
	{name: "inserted before the first", do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 0, at, record, mac FROM audit_record WHERE seq = 12`}, first: 0, what: "record 0 stands before the first"},
	{name: "inserted behind the end", do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 31, at, record, mac FROM audit_record WHERE seq = 12`}, first: 31, what: "record 31 was altered"},
	{name: "inserted behind the end, recomputed", do: []string{`INSERT INTO audit_record (seq, at, record, hash) SELECT 31, at, record, mac FROM audit_record WHERE seq = 12`}, from: 31, first: 31, what: "record 31 was altered: it has no MAC", keyless: -1},
	{name: "cut", do: cut, first: 23, what: "the chain ends at record 22, but a checkpoint of 2026-11-22T12:00:20Z says 25: 3 records were cut off"},
	{name: "cut with the checkpoints", do: cutAll, first: 23, known: "the chain ends at record 22, but a checkpoint of 2026-11-22T12:00:20Z says 25: 3 records were cut off", exported: "the chain ends at record 22, but"},
	{name: "cut behind the checkpoints", do: []string{`DELETE FROM audit_record WHERE seq > 27`, `UPDATE audit_head SET seq = 27, hash = (SELECT hash FROM audit_record WHERE seq = 27)`}, first: 28, exported: "the chain ends at record 27, but record 30 was exported: 3 records were cut off"},
	{name: "cut without the head", do: []string{`DELETE FROM audit_record WHERE seq > 29`}, first: 30, what: "the chain ends at record 29, but its head says 30: 1 record was cut off"},
	{name: "everything deleted", do: []string{`DELETE FROM audit_record`, `DELETE FROM audit_head`, `DELETE FROM audit_checkpoint`}, first: 1, known: "the chain ends at record 0, but a checkpoint", exported: "the chain ends at record 0, but"},
	{name: "head back", do: []string{`UPDATE audit_head SET seq = 29`}, first: 30, what: "the chain's head says that it ends at record 29"},
	{name: "head's hash", do: []string{`UPDATE audit_head SET hash = (SELECT hash FROM audit_record WHERE seq = 29)`}, first: 30, what: "the chain's head has another hash"},
	{name: "no head", do: []string{`DELETE FROM audit_head`}, first: 1, what: "the chain's head says that it ends at record 0"},
	{name: "checkpoint deleted", do: []string{`DELETE FROM audit_checkpoint WHERE seq = 10`}, first: 10, what: "the checkpoint of record 10 is missing"},
	{name: "first checkpoint deleted", do: []string{`DELETE FROM audit_checkpoint WHERE seq = 5`}, first: 5, what: "the checkpoint of record 5 is missing"},
	{name: "last checkpoint deleted", do: []string{`DELETE FROM audit_checkpoint WHERE seq = 25`}, first: 25, known: "the checkpoint of record 25 is missing", exported: "the checkpoint of record 25 is missing"},
	{name: "all checkpoints deleted", do: []string{`DELETE FROM audit_checkpoint`}, first: 1, what: "record 1 has neither a MAC nor a checkpoint", keyless: -1},
	{name: "signature", do: []string{`UPDATE audit_checkpoint SET signature = (SELECT signature FROM audit_checkpoint WHERE seq = 20) WHERE seq = 10`}, first: 10, what: "the checkpoint of record 10 is not signed"},
	{name: "checkpoint's time", do: []string{`UPDATE audit_checkpoint SET at = at + 1 WHERE seq = 10`}, first: 10, what: "the checkpoint of record 10 is not signed"},
	{name: "checkpoint's hash", do: []string{`UPDATE audit_checkpoint SET hash = (SELECT hash FROM audit_record WHERE seq = 9) WHERE seq = 10`}, first: 10, what: "the checkpoint of record 10 is not signed"},
	{name: "checkpoint moved", do: []string{`UPDATE audit_checkpoint SET seq = 11 WHERE seq = 10`}, first: 10, what: "the checkpoint of record 10 is missing"},
	{name: "MAC blanked", do: []string{`UPDATE audit_record SET mac = NULL WHERE seq = 12`}, first: 12, what: "record 12 was altered: it has no MAC", keyless: -1},
	{name: "MAC of another", do: []string{`UPDATE audit_record SET mac = (SELECT mac FROM audit_record WHERE seq = 13) WHERE seq = 12`}, first: 12, what: "record 12 was altered: its MAC", keyless: -1},
}

// Whatever was done to the database, the first record that suffered is named.
func TestVerify(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := history(t, opener())
		for _, a := range alterations {
			t.Run(a.name, func(t *testing.T) {
				undo := l.snapshot(t)
				defer undo()
				l.exec(t, a.do...)
				if a.from > 0 {
					l.recompute(t, a.from)
				}
				known, exported := a.known, a.exported
				if known == "" {
					known = a.what
				}
				if exported == "" {
					exported = a.what
				}
				l.expect(t, a.first, a.what, l.verify(t))
				l.expect(t, a.first, known, l.verify(t, l.known(t)))
				l.expect(t, a.first, exported, l.verify(t, l.known(t), l.lines))
				switch {
				case a.keyless == 0:
					l.expect(t, a.first, a.what, l.verify(t, keyless))
				case a.keyless > 0:
					l.expect(t, a.keyless, "record", l.verify(t, keyless))
				default:
					l.expect(t, 0, "", l.verify(t, keyless))
				}
			})
		}
	})
}

// expect looks at the first problem.
func (l *lab) expect(t *testing.T, first int64, what string, r audit.Report) {
	t.Helper()
	if what == "" {
		if r.Found != 0 || len(r.Problems) != 0 {
			t.Errorf("found %+v", r)
		}
		return
	}
	if len(r.Problems) == 0 {
		t.Fatalf("nothing was found: %+v", r)
	}
	if r.Problems[0].Seq != first || !strings.Contains(r.Problems[0].What, what) {
		t.Errorf("found %+v, not %d: %s", r.Problems, first, what)
	}
}

// snapshot returns what sets the database back to now.
func (l *lab) snapshot(t *testing.T) (undo func()) {
	t.Helper()
	tables := map[string]string{"audit_head": "*", "audit_record": "*", "audit_checkpoint": "*"}
	for name := range tables {
		l.exec(t, "CREATE TABLE kept_"+name+" AS SELECT * FROM "+name)
	}
	return func() {
		for name := range tables {
			l.exec(t, "DELETE FROM "+name, "INSERT INTO "+name+" SELECT * FROM kept_"+name, "DROP TABLE kept_"+name)
		}
	}
}

// A whole chain is counted; what was exported again is what was streamed.
func TestReportAndExport(t *testing.T) {
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		if r := l.verify(t); r.Records != 0 || r.Found != 0 || !r.Last.IsZero() {
			t.Errorf("an empty chain: %+v", r)
		}
		if newest, err := l.chain.NewestTime(t.Context(), l.db); err != nil || !newest.IsZero() {
			t.Errorf("the time of an empty chain: %v, %v", newest, err)
		}
		k := l.keep(t)
		for range 3 {
			l.append(t, 4)
			l.round(t, k)
		}
		r := l.verify(t, l.known(t), l.lines)
		if r.Records != 12 || r.Checkpoints != 3 || r.Found != 0 || !r.Last.Equal(at.Add(12*time.Second)) {
			t.Errorf("%+v", r)
		}
		if newest, err := l.chain.NewestTime(t.Context(), l.db); err != nil || !newest.Equal(r.Last) {
			t.Errorf("the newest time is %v, %v", newest, err)
		}
		var out bytes.Buffer
		if err := audit.Export(t.Context(), l.db, 0, &out); err != nil || out.String() != l.out.String() {
			t.Errorf("%v: exported\n%s\nstreamed\n%s", err, out.String(), l.out.String())
		}
		out.Reset()
		if err := audit.Export(t.Context(), l.db, 11, &out); err != nil || strings.Count(out.String(), "\n") != 2 {
			t.Errorf("%v: exported behind 11\n%s", err, out.String())
		}
		if r := l.verify(t, func(c *audit.VerifyConfig) { c.Chain = newChain(t, 2) }); r.Found != 15 {
			t.Errorf("under another key: %+v", r)
		}
		if _, err := audit.Verify(t.Context(), audit.VerifyConfig{DB: l.db}); err == nil {
			t.Error("verified without any key")
		}
	})
}
