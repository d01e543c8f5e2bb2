package store_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// The benchmarks write what an issue writes: a row of 900 bytes with three unique columns,
// in one durable transaction each.
const record = `CREATE TABLE record (
	serial BYTEA PRIMARY KEY, assertion BYTEA NOT NULL UNIQUE, repeat TEXT NOT NULL UNIQUE,
	body BYTEA NOT NULL, at BIGINT NOT NULL
);`

func BenchmarkWrite1(b *testing.B)  { benchmark(b, 1) }
func BenchmarkWrite8(b *testing.B)  { benchmark(b, 8) }
func BenchmarkWrite32(b *testing.B) { benchmark(b, 32) }

func benchmark(b *testing.B, writers int) {
	b.Run("sqlite-grouped", func(b *testing.B) { write(b, storetest.Open(b, storetest.SQLite(b)), writers) })
	b.Run("sqlite-ungrouped", func(b *testing.B) {
		db := storetest.Open(b, storetest.SQLite(b))
		store.SetGroup(db, 1)
		write(b, db, writers)
	})
	b.Run("postgres", func(b *testing.B) { write(b, storetest.Open(b, storetest.Postgres(b)), writers) })
}

func write(b *testing.B, db *store.DB, writers int) {
	if err := db.Migrate(b.Context(), fstest.MapFS{"0001_record.sql": {Data: []byte(record)}}); err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("estuary "), 100)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range writers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				// Multiplied by an odd number the keys are as scattered as serials are.
				key := fmt.Appendf(nil, "%020d", uint64(i)*0x9E3779B97F4A7C15)
				err := db.Write(b.Context(), func(ctx context.Context, tx store.Tx) error {
					_, err := tx.Exec(ctx, `INSERT INTO record (serial, assertion, repeat, body, at) VALUES ($1, $2, $3, $4, $5)`,
						key, key[4:], string(key), body, i)
					return err
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}
