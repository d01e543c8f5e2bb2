package token_test

import (
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// trial is a checker, its hasher and a token that it knows.
type trial struct {
	*world
	hasher  *token.Hasher
	checker *token.Checker
	tok     secret.Bytes
	row     state.Token
}

func newTrial(t *testing.T, a token.Algorithm) *trial {
	t.Helper()
	w := newWorld(t)
	tr := &trial{world: w, hasher: newHasher(t, 1, a)}
	tr.checker = w.checker(t, tr.hasher, token.MatchIfPresent)
	tr.tok = w.create(t, tr.hasher, func(r *state.Token) { tr.row = *r })
	return tr
}

// want is what an attempt comes to.
type want struct {
	refused, alarm token.Reason
	repeated       bool
	slow           int // hashes
}

// attempt checks the token with the key that begins with this octet, and stores what is to
// be recognised, as serve does.
func (tr *trial) attempt(t *testing.T, key byte, user string, w want) {
	t.Helper()
	before := tr.hasher.SlowHashes()
	v, err := tr.checker.Check(t.Context(), token.Attempt{User: user, Password: tr.tok, SPKISHA256: [32]byte{key}})
	if err != nil {
		t.Fatal(err)
	}
	if got := (want{v.Refused, v.Alarm, v.Repeated, tr.hasher.SlowHashes() - before}); got != w {
		t.Errorf("key %d: %+v, not %+v", key, got, w)
	}
	if (v.Acceptance != nil) != (w.refused == "" && !w.repeated && w.slow == 1) {
		t.Errorf("key %d: acceptance %+v", key, v.Acceptance)
	}
	if v.Acceptance == nil {
		return
	}
	if !v.Acceptance.AcceptedAt.Equal(tr.now) || !v.Acceptance.KeepUntil.Equal(tr.row.ExpiresAt) {
		t.Errorf("key %d: accepted at %v until %v", key, v.Acceptance.AcceptedAt, v.Acceptance.KeepUntil)
	}
	err = tr.state.Accept(t.Context(), *v.Acceptance, audit.Record{Time: start, Event: "credential.accepted", Outcome: audit.Success})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	first  = want{slow: 1}
	repeat = want{repeated: true}
)

// The same key costs one slow hash, however often it comes; another key costs its own and is
// not refused: uses are counted elsewhere.
func TestRepeat(t *testing.T) {
	for _, a := range []token.Algorithm{token.Argon2id, token.Bcrypt} {
		tr := newTrial(t, a)
		tr.attempt(t, 1, "", first)
		tr.attempt(t, 1, "", repeat)
		tr.attempt(t, 2, "", first)
		tr.now = start.Add(time.Hour - time.Microsecond)
		tr.attempt(t, 1, "pump-7", repeat)
		tr.attempt(t, 2, "", repeat)
	}
}

// Nothing but the slow hash is spared.
func TestRepeatIsJudgedAnew(t *testing.T) {
	tr := newTrial(t, token.Argon2id)
	tr.attempt(t, 1, "pump-8", want{refused: token.ReasonUser, slow: 1})
	tr.attempt(t, 1, "", first) // the refusal was not recorded as an acceptance
	tr.attempt(t, 1, "pump-8", want{refused: token.ReasonUser, repeated: true})
	if _, err := tr.state.RevokeToken(t.Context(), tr.row.ID, start, func(state.Token) audit.Record {
		return audit.Record{Time: start, Event: "token.revoked", Outcome: audit.Success}
	}); err != nil {
		t.Fatal(err)
	}
	tr.attempt(t, 1, "", want{refused: token.ReasonRevoked, repeated: true})

	tr = newTrial(t, token.Argon2id)
	tr.attempt(t, 1, "", first)
	tr.now = start.Add(time.Hour)
	tr.attempt(t, 1, "", want{refused: token.ReasonExpired, slow: 1})
}

func TestFastHashIsNotRecorded(t *testing.T) {
	tr := newTrial(t, token.SHA256HMAC)
	for range 2 {
		tr.attempt(t, 1, "", want{})
	}
}

// A row that somebody changed or copied is not believed; the full check puts it right.
func TestForgedAcceptance(t *testing.T) {
	for name, statement := range map[string]string{
		"accepted_at": `UPDATE credential_check SET accepted_at = accepted_at + 1`,
		"keep_until":  `UPDATE credential_check SET keep_until = keep_until + 1`,
		"mac":         `UPDATE credential_check SET mac = credential`,
		"spki":        `UPDATE credential_check SET spki = $1`,
		"copy": `INSERT INTO credential_check (credential, spki, accepted_at, keep_until, mac)
			SELECT credential, $1, accepted_at, keep_until, mac FROM credential_check`,
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrial(t, token.Argon2id)
			tr.attempt(t, 1, "", first)
			found, args := byte(1), []any{}
			if name == "spki" || name == "copy" {
				key := [32]byte{2}
				found, args = 2, append(args, key[:])
			}
			tr.exec(t, statement, args...)
			tr.attempt(t, found, "", want{alarm: token.ReasonAcceptance, slow: 1})
			tr.attempt(t, found, "", repeat)
		})
	}
}

// The acceptance of one token is worth nothing for another.
func TestAcceptanceOfAnotherToken(t *testing.T) {
	tr := newTrial(t, token.Argon2id)
	tr.attempt(t, 1, "", first)
	other := tr.row
	tr.tok = tr.create(t, tr.hasher, func(r *state.Token) { other = *r })
	credential := other.Credential()
	tr.exec(t, `UPDATE credential_check SET credential = $1`, credential[:])
	tr.attempt(t, 1, "", want{alarm: token.ReasonAcceptance, slow: 1})
}

// A token's row that was replaced under the same id and index inherits no acceptance.
func TestReplacedToken(t *testing.T) {
	tr := newTrial(t, token.Argon2id)
	tr.attempt(t, 1, "", first)
	tr.exec(t, `DELETE FROM enrolment_token`)
	tr.row.Hash[20] ^= 1
	if err := tr.state.CreateToken(t.Context(), tr.row, audit.Record{Time: start, Event: "token.created", Outcome: audit.Success}); err != nil {
		t.Fatal(err)
	}
	tr.attempt(t, 1, "", want{refused: token.ReasonHash, alarm: token.ReasonHash, slow: 1})
}
