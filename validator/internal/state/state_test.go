package state_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/audit/audittest"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 123456000, time.UTC)

func newState(t *testing.T, db *store.DB, key byte, w io.Writer) *state.Store {
	t.Helper()
	return newStreamed(t, db, key, audit.NewStream(w))
}

func newStreamed(t *testing.T, db *store.DB, key byte, stream *audit.Stream) *state.Store {
	t.Helper()
	s, err := state.New(t.Context(), state.Config{
		DB: db, MACKey: secret.New(bytes.Repeat([]byte{key}, state.MACKeySize)),
		Stream: stream, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flush returns how many lines are on the stream to w.
func flush(t *testing.T, s *audit.Stream, w *bytes.Buffer) int {
	t.Helper()
	if err := audittest.Flush(s); err != nil {
		t.Error(err)
	}
	return strings.Count(w.String(), "\n")
}

func sample(id string) state.Token {
	return state.Token{
		ID: id, Index: []byte("index of " + id), Algorithm: "sha256-hmac", Hash: []byte{0, 1, 2, 0xff},
		ClientID: "pump-7", MaxUses: 3, CreatedAt: start, ExpiresAt: start.Add(time.Hour),
		RequiredSPKI: bytes.Repeat([]byte{7}, 32), AllowedNames: []string{"dns:a.example", "uri:urn:\"x\""}, CreatedBy: "alice",
	}
}

func created(s state.Token) audit.Record {
	return audit.Record{Time: start, Event: "token.created", Outcome: audit.Success, Identity: s.ClientID}
}

func revoked(s state.Token) audit.Record {
	return audit.Record{Time: start, Event: "token.revoked", Outcome: audit.Success, Identity: s.ClientID}
}

func create(t *testing.T, s *state.Store, tokens ...state.Token) {
	t.Helper()
	for _, tok := range tokens {
		if err := s.CreateToken(t.Context(), tok, created(tok)); err != nil {
			t.Fatal(err)
		}
	}
}

func exec(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		n, err := tx.Exec(ctx, query, args...)
		if err == nil && n != 1 {
			t.Errorf("%s: %d rows", query, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// records returns the stored audit records, oldest first.
func records(t *testing.T, db *store.DB) (texts []string) {
	t.Helper()
	err := db.Read(t.Context(), func(ctx context.Context, tx store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT record FROM audit_record ORDER BY seq`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for texts = nil; rows.Next(); {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			texts = append(texts, text)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestSchemaHasTheAuditTables(t *testing.T) {
	text, err := os.ReadFile("migrations/0001_initial.sql")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), audit.Schema) {
		t.Error("the first migration does not contain audit.Schema word for word")
	}
}

func TestTokens(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		var out bytes.Buffer
		stream := audit.NewStream(&out)
		s := newStreamed(t, db, 1, stream)
		full, bare := sample("full"), sample("bare")
		bare.RequiredSPKI, bare.AllowedNames, bare.CreatedBy, bare.ExpiresAt = nil, nil, "", start.Add(87600*time.Hour)
		create(t, s, full, bare)
		for _, want := range []state.Token{full, bare} {
			got, err := s.TokenByIndex(t.Context(), want.Index)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s came back otherwise (-want +got):\n%s", want.ID, diff)
			}
		}
		if _, err := s.TokenByIndex(t.Context(), []byte("other")); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("another index: %v", err)
		}
		again := sample("again")
		again.Index = full.Index
		for _, twin := range []state.Token{again, full} {
			if err := s.CreateToken(t.Context(), twin, created(twin)); !store.Conflict(err) {
				t.Errorf("twin %s: %v", twin.ID, err)
			}
		}
		if got := records(t, db); len(got) != 2 || flush(t, stream, &out) != 2 {
			t.Errorf("two tokens made %d records and this stream:\n%s", len(got), out.String())
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRevoke(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		tok := sample("one")
		create(t, s, tok)
		at := start.Add(time.Minute)
		for range 2 { // the second changes nothing
			got, err := s.RevokeToken(t.Context(), "one", at, revoked)
			if err != nil || !got.RevokedAt.Equal(start.Add(time.Minute)) {
				t.Fatalf("revoked at %v, %v", got.RevokedAt, err)
			}
			at = at.Add(time.Minute)
		}
		got, err := s.TokenByIndex(t.Context(), tok.Index)
		if err != nil || !got.RevokedAt.Equal(start.Add(time.Minute)) {
			t.Errorf("stored: %v, %v", got.RevokedAt, err)
		}
		if got := records(t, db); len(got) != 2 || !strings.Contains(got[1], "token.revoked") || !strings.Contains(got[1], "pump-7") {
			t.Errorf("records %q", got)
		}
		if _, err := s.RevokeToken(t.Context(), "none", at, revoked); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("no such token: %v", err)
		}
	})
}

// Every column is covered: a row that was changed in the database authorises nothing, and
// is not given a good MAC by revoking it.
func TestForgedRows(t *testing.T) {
	changes := []struct {
		column string
		value  any
	}{
		{"id", "two"},
		{"hash_algorithm", "bcrypt"},
		{"hash", []byte{9}},
		{"client_id", "pump-8"},
		{"max_uses", int64(10000)},
		{"created_at", int64(5)},
		{"expires_at", start.Add(8760 * time.Hour).UnixMicro()},
		{"revoked_at", int64(1)},
		{"required_spki", []byte{}},
		{"allowed_names", `["dns:ca.example"]`},
		{"created_by", "mallory"},
		{"mac", bytes.Repeat([]byte{1}, 32)},
	}
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		for _, c := range changes {
			tok := sample("one")
			create(t, s, tok)
			exec(t, db, `UPDATE enrolment_token SET `+c.column+` = $1 WHERE token_index = $2`, c.value, tok.Index)
			if _, err := s.TokenByIndex(t.Context(), tok.Index); !errors.Is(err, state.ErrForged) {
				t.Errorf("%s changed: %v", c.column, err)
			}
			id := tok.ID
			if c.column == "id" {
				id = "two"
			}
			if _, err := s.RevokeToken(t.Context(), id, start, revoked); !errors.Is(err, state.ErrForged) {
				t.Errorf("%s changed, revoking: %v", c.column, err)
			}
			page, err := s.ListTokens(t.Context(), "", state.Cursor{}, 10)
			if err != nil || len(page.Tokens) != 0 || len(page.Forged) != 1 || page.Forged[0] != id {
				t.Errorf("%s changed, listed as %+v, %v", c.column, page, err)
			}
			exec(t, db, `DELETE FROM enrolment_token WHERE token_index = $1`, tok.Index)
		}
	})
}

// A row under another index is another token's: its hash must not be found there.
func TestMovedIndex(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		create(t, s, sample("one"))
		exec(t, db, `UPDATE enrolment_token SET token_index = $1`, []byte("elsewhere"))
		if _, err := s.TokenByIndex(t.Context(), []byte("elsewhere")); !errors.Is(err, state.ErrForged) {
			t.Errorf("moved: %v", err)
		}
	})
}

func TestMACKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		tok := sample("one")
		create(t, newState(t, db, 1, io.Discard), tok)
		if _, err := newState(t, db, 2, io.Discard).TokenByIndex(t.Context(), tok.Index); !errors.Is(err, state.ErrForged) {
			t.Errorf("under another key: %v", err)
		}
		if _, err := newState(t, db, 1, io.Discard).TokenByIndex(t.Context(), tok.Index); err != nil {
			t.Errorf("under the same key after a new start: %v", err)
		}
	})
	for _, size := range []int{0, 31, 33} {
		_, err := state.New(t.Context(), state.Config{
			DB: new(store.DB), MACKey: secret.New(make([]byte, size)), Stream: audit.NewStream(io.Discard), Log: slog.New(slog.DiscardHandler),
		})
		if err == nil {
			t.Errorf("a key of %d octets was accepted", size)
		}
	}
}

// The end of one field must not be movable into the beginning of the next.
func TestFieldsAreKeptApart(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, io.Discard)
		tok := sample("one")
		create(t, s, tok)
		exec(t, db, `UPDATE enrolment_token SET hash_algorithm = $1, hash = $2`, "sha256-hma", append([]byte("c"), tok.Hash...))
		if _, err := s.TokenByIndex(t.Context(), tok.Index); !errors.Is(err, state.ErrForged) {
			t.Errorf("moved octet: %v", err)
		}
	})
}

// Nothing is stored without its record, and a record that cannot be streamed is stored.
func TestRecords(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		s := newState(t, db, 1, brokenWriter{})
		r := audit.Record{Time: start, Event: "credential.refused", Outcome: audit.Refused, Reason: "unknown token"}
		if err := s.Record(t.Context(), r); err != nil {
			t.Errorf("with a broken stream: %v", err)
		}
		if got := records(t, db); len(got) != 1 || !strings.Contains(got[0], "unknown token") {
			t.Errorf("records %q", got)
		}
		exec(t, db, `UPDATE audit_head SET seq = 0`) // the next number is taken: no record can be written
		tok := sample("one")
		if err := s.CreateToken(t.Context(), tok, created(tok)); err == nil {
			t.Error("a token was made that could not be recorded")
		}
		if _, err := s.TokenByIndex(t.Context(), tok.Index); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("the unrecorded token is there: %v", err)
		}
	})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, sql.ErrConnDone }

// A record is streamed once it is committed, and not when the commit itself fails.
func TestFailedCommitIsNotStreamed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		var out bytes.Buffer
		stream := audit.NewStream(&out)
		s := newStreamed(t, db, 1, stream)
		err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
			for _, statement := range []string{
				`DROP TABLE audit_record`,
				`CREATE TABLE wanted (seq BIGINT PRIMARY KEY)`,
				`CREATE TABLE audit_record (seq BIGINT PRIMARY KEY REFERENCES wanted (seq) DEFERRABLE INITIALLY DEFERRED,
					at BIGINT NOT NULL, record TEXT NOT NULL, hash BYTEA NOT NULL UNIQUE)`,
			} {
				if _, err := tx.Exec(ctx, statement); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Record(t.Context(), audit.Record{Time: start, Event: "credential.accepted", Outcome: audit.Success}); err == nil {
			t.Error("recorded, although the commit failed")
		}
		if flush(t, stream, &out) != 0 {
			t.Errorf("streamed %s", out.String())
		}
	})
}
