package token_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

type world struct {
	db    *store.DB
	state *state.Store
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := storetest.Open(t, storetest.SQLite(t))
	st, err := state.New(t.Context(), state.Config{
		DB: db, MACKey: secret.New(bytes.Repeat([]byte{9}, 32)), Stream: audit.NewStream(io.Discard), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &world{db: db, state: st, now: start}
}

func (w *world) checker(t *testing.T, h *token.Hasher, m token.Match) *token.Checker {
	t.Helper()
	c, err := token.NewChecker(token.CheckerConfig{State: w.state, Hasher: h, Match: m, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create stores a token for the device "pump-7", good for an hour.
func (w *world) create(t *testing.T, h *token.Hasher, change func(*state.Token)) secret.Bytes {
	t.Helper()
	tok, err := token.Make(16)
	if err != nil {
		t.Fatal(err)
	}
	a, hash, err := h.Hash(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	row := state.Token{
		ID: token.NewID(), Index: h.Index(tok), Algorithm: string(a), Hash: hash,
		ClientID: "pump-7", MaxUses: 1, CreatedAt: start, ExpiresAt: start.Add(time.Hour),
	}
	if change != nil {
		change(&row)
	}
	if err := w.state.CreateToken(t.Context(), row, audit.Record{Time: start, Event: "token.created", Outcome: audit.Success}); err != nil {
		t.Fatal(err)
	}
	return tok
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	err := w.db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
		n, err := tx.Exec(ctx, query, args...)
		if err == nil && n != 1 {
			t.Errorf("%d rows changed", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	spki := [32]byte{1, 2, 3}
	cases := []struct {
		name    string
		match   token.Match
		change  func(*state.Token)
		after   time.Duration
		attempt func(*token.Attempt)
		want    token.Reason
	}{
		{name: "good", match: token.MatchIfPresent},
		{name: "good with its name", match: token.MatchIfPresent, attempt: user("pump-7")},
		{name: "another name", match: token.MatchIfPresent, attempt: user("pump-8"), want: token.ReasonUser},
		{name: "name in another case", match: token.MatchIfPresent, attempt: user("PUMP-7"), want: token.ReasonUser},
		{name: "longer name", match: token.MatchIfPresent, attempt: user("pump-77"), want: token.ReasonUser},
		{name: "name required", match: token.MatchRequired, want: token.ReasonUser},
		{name: "required name", match: token.MatchRequired, attempt: user("pump-7")},
		{name: "required name wrong", match: token.MatchRequired, attempt: user("pump-8"), want: token.ReasonUser},
		{name: "name ignored", match: token.MatchIgnored, attempt: user("pump-8")},
		{name: "last moment", match: token.MatchIfPresent, after: time.Hour - time.Microsecond},
		{name: "expired", match: token.MatchIfPresent, after: time.Hour, want: token.ReasonExpired},
		{name: "revoked", match: token.MatchIfPresent, change: func(r *state.Token) { r.RevokedAt = start }, want: token.ReasonRevoked},
		{name: "its key", match: token.MatchIfPresent, change: func(r *state.Token) { r.RequiredSPKI = spki[:] }},
		{
			name: "another key", match: token.MatchIfPresent, change: func(r *state.Token) { r.RequiredSPKI = make([]byte, 32) },
			want: token.ReasonKey,
		},
		{
			name: "no token", match: token.MatchIgnored, want: token.ReasonForm,
			attempt: func(a *token.Attempt) { a.Password = secret.New([]byte("hunter2")) },
		},
		{
			name: "never made", match: token.MatchIgnored, want: token.ReasonUnknown,
			attempt: func(a *token.Attempt) { a.Password, _ = token.Make(16) },
		},
	}
	w := newWorld(t)
	h := newHasher(t, 1, token.SHA256HMAC)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.now = start
			a := token.Attempt{Password: w.create(t, h, c.change), SPKISHA256: spki}
			if c.attempt != nil {
				c.attempt(&a)
			}
			w.now = start.Add(c.after)
			v, err := w.checker(t, h, c.match).Check(t.Context(), a)
			if err != nil || v.Refused != c.want {
				t.Fatalf("refused %q, %v, not %q", v.Refused, err, c.want)
			}
			found := c.want != token.ReasonForm && c.want != token.ReasonUnknown
			if (v.Token.ClientID == "pump-7") != found {
				t.Errorf("verdict names the client %q", v.Token.ClientID)
			}
		})
	}
}

func user(name string) func(*token.Attempt) { return func(a *token.Attempt) { a.User = name } }

// Tokens made before the algorithm was changed stay good.
func TestCheckAfterChangeOfAlgorithm(t *testing.T) {
	w := newWorld(t)
	for _, made := range token.Algorithms {
		tok := w.create(t, newHasher(t, 1, made), nil)
		for _, now := range token.Algorithms {
			v, err := w.checker(t, newHasher(t, 1, now), token.MatchIfPresent).Check(t.Context(), token.Attempt{Password: tok})
			if err != nil || v.Refused != "" {
				t.Errorf("made by %s, checked under %s: %q, %v", made, now, v.Refused, err)
			}
		}
	}
}

// What is not found costs no slow hash: with every slot taken it is refused at once.
func TestUnknownTokenCostsNoHash(t *testing.T) {
	w := newWorld(t)
	h := newHasher(t, 1, token.Argon2id)
	defer h.TakeAllSlots()()
	tok, err := token.Make(16)
	if err != nil {
		t.Fatal(err)
	}
	v, err := w.checker(t, h, token.MatchIfPresent).Check(t.Context(), token.Attempt{Password: tok})
	if err != nil || v.Refused != token.ReasonUnknown {
		t.Errorf("%q, %v", v.Refused, err)
	}
}

// Who can write to the database still cannot make a token good again.
func TestChangedRow(t *testing.T) {
	w := newWorld(t)
	h := newHasher(t, 1, token.SHA256HMAC)
	tok := w.create(t, h, func(r *state.Token) { r.ID, r.RevokedAt = "x", start })
	w.exec(t, `UPDATE enrolment_token SET revoked_at = 0 WHERE id = $1`, "x")
	v, err := w.checker(t, h, token.MatchIfPresent).Check(t.Context(), token.Attempt{Password: tok})
	if err != nil || v.Refused != token.ReasonForged || v.Token.ID != "" {
		t.Errorf("%q, %v", v.Refused, err)
	}
}

// A row with a good MAC and the hash of another token: nothing but a mistake of ours, and
// refused all the same.
func TestWrongHash(t *testing.T) {
	w := newWorld(t)
	h := newHasher(t, 1, token.SHA256HMAC)
	tok := w.create(t, h, func(r *state.Token) { r.Hash[20] ^= 1 })
	v, err := w.checker(t, h, token.MatchIfPresent).Check(t.Context(), token.Attempt{Password: tok})
	if err != nil || v.Refused != token.ReasonHash {
		t.Errorf("%q, %v", v.Refused, err)
	}
}

func TestNothingIsKnownWithoutTheDatabase(t *testing.T) {
	w := newWorld(t)
	h := newHasher(t, 1, token.SHA256HMAC)
	tok := w.create(t, h, nil)
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := w.checker(t, h, token.MatchIfPresent).Check(t.Context(), token.Attempt{Password: tok})
	if !errors.Is(err, fault.Unavailable) || v.Refused != "" {
		t.Errorf("%q, %v", v.Refused, err)
	}
}

func TestNewCheckerNeedsAll(t *testing.T) {
	w := newWorld(t)
	h := newHasher(t, 1, token.SHA256HMAC)
	good := token.CheckerConfig{State: w.state, Hasher: h, Match: token.MatchIfPresent, Now: time.Now}
	for name, change := range map[string]func(*token.CheckerConfig){
		"state":  func(c *token.CheckerConfig) { c.State = nil },
		"hasher": func(c *token.CheckerConfig) { c.Hasher = nil },
		"clock":  func(c *token.CheckerConfig) { c.Now = nil },
		"match":  func(c *token.CheckerConfig) { c.Match = "sometimes" },
	} {
		c := good
		change(&c)
		if _, err := token.NewChecker(c); err == nil {
			t.Errorf("made without %s", name)
		}
	}
}
