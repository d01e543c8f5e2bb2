package audittest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// page is how many records are read at once.
const page = 4096

// many adds n records of the usual size in one transaction.
func (l *lab) many(t testing.TB, n int) {
	t.Helper()
	var all []audit.Entry
	err := l.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		for i := range n {
			e, err := l.chain.Append(ctx, tx, audit.Record{
				Time: l.pass(0), Event: "certificate.issued", Outcome: audit.Success, Actor: "gateway-1", Address: "192.0.2.17",
				RequestID: "01JD3Z7VX9M8T5QK2N4W6R8Y0B", Label: "devices", CSRSHA256: strings.Repeat("5e", 32),
				Identity: "host/pump-7.example.org@EXAMPLE.ORG", Method: "otp", Serial: fmt.Sprintf("%032x", i),
			})
			if err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		l.chain.Committed(e)
	}
}

// What lies at the border of two pages is seen as well.
func TestVerifyPages(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.Open(t, storetest.SQLite(t)))
	k := l.keep(t)
	for _, n := range []int{page - 1, 1, 1, page - 2, 1, 10} {
		l.many(t, n)
		l.round(t, k)
	}
	if r := l.verify(t, l.known(t)); r.Found != 0 || r.Records != 2*page+10 || r.Checkpoints != 6 {
		t.Fatalf("%+v", r)
	}
	for seq := int64(page - 1); seq <= page+2; seq++ {
		for what, statement := range map[string]string{
			"was altered": `UPDATE audit_record SET record = replace(record, 'otp', 'opt') WHERE seq = %d`,
			"is missing":  `DELETE FROM audit_record WHERE seq = %d`,
		} {
			undo := l.snapshot(t)
			l.exec(t, fmt.Sprintf(statement, seq))
			l.expect(t, seq, fmt.Sprintf("record %d %s", seq, what), l.verify(t))
			undo()
		}
	}
	l.exec(t, `DELETE FROM audit_checkpoint WHERE seq = 4096`)
	l.expect(t, page, "the checkpoint of record 4096 is missing", l.verify(t))
	l.exec(t, `UPDATE audit_record SET mac = NULL`) // the first checkpoint covers 4095 records
	if r := l.verify(t); r.Found != page+12 || len(r.Problems) != 100 || r.Problems[0].Seq != page || r.Problems[99].Seq != page+98 {
		t.Errorf("%d problems, %d kept, the first %+v", r.Found, len(r.Problems), r.Problems[0])
	}
}

// A chain that grows meanwhile is whole, too, also beside what is exported meanwhile.
func TestVerifyBesideWriters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, opener func() *store.DB) {
		l := newLab(t, opener())
		k, err := l.keeper(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		group.Go(func() {
			for range 30 {
				l.many(t, 5)
				l.round(t, k)
			}
		})
		var last int64
		for last < 150 && !t.Failed() {
			// It asks for the lines when it has been through the database.
			later := func(yield func(audit.Line, error) bool) {
				var out strings.Builder
				if err := audit.Export(t.Context(), l.db, 0, &out); err != nil {
					t.Error(err)
				}
				for line, err := range audit.ReadLines(strings.NewReader(out.String())) {
					if !yield(line, err) {
						return
					}
				}
			}
			r := l.verify(t, func(c *audit.VerifyConfig) { c.Lines = later })
			if r.Found != 0 {
				t.Errorf("%+v", r)
			}
			last = r.Records
		}
		group.Wait()
	})
}

// BenchmarkVerify goes along 100,000 records with a checkpoint each thousand.
func BenchmarkVerify(b *testing.B) {
	l := newLab(b, storetest.Open(b, storetest.SQLite(b)))
	k := l.keep(b)
	const records = 100_000
	for n := 0; n < records; n += 1000 {
		l.many(b, 1000)
		l.round(b, k)
	}
	for b.Loop() {
		if r := l.verify(b); r.Found != 0 || r.Records != records || r.Checkpoints != records/1000 {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAppend measures a record within a transaction.
func BenchmarkAppend(b *testing.B) {
	l := newLab(b, storetest.Open(b, storetest.SQLite(b)))
	err := l.db.Write(b.Context(), func(ctx context.Context, tx store.Tx) error {
		for b.Loop() {
			if _, err := l.chain.Append(ctx, tx, audit.Record{Time: at, Event: "test.done"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
