package ledger

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// use is one use of a credential.
type use struct {
	id               []byte
	limit, keepUntil int64
}

// take counts u. The first use is the row's making; every other one is decided by the
// UPDATE, which lets nobody past the limit, and only afterwards is the count that it found
// held against its MAC: the transaction is rolled back where it does not match. A credential
// that is new and has uses behind it, of which the ledger's rows tell, has lost its count to
// somebody.
func (l *Ledger) take(ctx context.Context, tx store.Tx, r *row, u use) error {
	for range 2 { // a count that ends between the two is purged: then this is the first use
		n, err := tx.Exec(ctx, `INSERT INTO spend (id, used, use_limit, keep_until, mac) VALUES ($1, 1, $2, $3, $4)
 ON CONFLICT (id) DO NOTHING`, u.id, u.limit, u.keepUntil, l.spendMAC(u.id, 1))
		if err != nil {
			return fmt.Errorf("taking a use: %w", err)
		}
		if n == 1 {
			return l.first(ctx, tx, r, u)
		}
		err = l.recount(ctx, tx, u.id, 1, `UPDATE spend SET used = used + 1, use_limit = $2, keep_until = $3
 WHERE id = $1 AND used < $2 RETURNING used, mac`, u.limit, u.keepUntil)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	return fault.New(fault.Unauthenticated, "ledger.Begin", Refused, errors.New("the credential has no use left"))
}

// first tells whether this can be the first use of the credential that r spends.
func (l *Ledger) first(ctx context.Context, tx store.Tx, r *row, u use) error {
	var serial string
	err := tx.QueryRow(ctx, `SELECT serial FROM entry WHERE spend_key = $1 AND keep_until > $2 AND state <> 3 LIMIT 1`,
		r.spendKey, r.createdAt).Scan(&serial)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("looking for earlier uses: %w", err)
	}
	return alteredError{what: fmt.Sprintf("the count of uses of credential %x is gone, which serial %s was issued on", u.id, serial)}
}

// Returns tells whether an intent that fails gives back what it took: where the same credential
// can be offered again.
func Returns(a *assertionv1.Assertion) bool {
	method := a.GetAuthentication().GetMethod()
	return method == assertionv1.Method_METHOD_TOKEN || method == assertionv1.Method_METHOD_CERTIFICATE
}

// giveBack returns the use that r took: a token's or a certificate's, which can be offered again. A one-time
// password was used up where it was checked, and stays spent.
func (l *Ledger) giveBack(ctx context.Context, tx store.Tx, r *row) error {
	a, err := r.assertion()
	if err != nil {
		return err
	}
	if !Returns(a) {
		return nil
	}
	for _, id := range spendIDs(a.GetSpend()) {
		err := l.recount(ctx, tx, id, -1, `UPDATE spend SET used = used - 1 WHERE id = $1 AND used > 0 RETURNING used, mac`)
		var altered alteredError
		switch {
		case errors.As(err, &altered): // the transaction goes on: leave it as it was
			if _, undo := tx.Exec(ctx, `UPDATE spend SET used = used + 1 WHERE id = $1`, id); undo != nil {
				return fmt.Errorf("leaving a count as it was: %w", undo)
			}
			return err
		case err != nil && !errors.Is(err, sql.ErrNoRows): // what was purged is needed by nobody
			return err
		}
	}
	return nil
}

// recount runs an UPDATE that moves the count of id ($1) by step and returns used and mac,
// checks the MAC over the count that was there before, and writes that over the new one.
// Errors: sql.ErrNoRows, alteredError.
func (l *Ledger) recount(ctx context.Context, tx store.Tx, id []byte, step int64, update string, args ...any) error {
	var used int64
	var mac []byte
	err := tx.QueryRow(ctx, update, append([]any{id}, args...)...).Scan(&used, &mac)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return err
	case err != nil:
		return fmt.Errorf("counting a use: %w", err)
	case !hmac.Equal(mac, l.spendMAC(id, used-step)):
		return alteredError{what: fmt.Sprintf("the count of uses of credential %x does not carry its MAC", id)}
	}
	if _, err := tx.Exec(ctx, `UPDATE spend SET mac = $2 WHERE id = $1`, id, l.spendMAC(id, used)); err != nil {
		return fmt.Errorf("counting a use: %w", err)
	}
	return nil
}

// spendMAC returns the MAC over a count.
func (l *Ledger) spendMAC(id []byte, used int64) []byte {
	h := hmac.New(sha256.New, l.macKey.Reveal())
	h.Write([]byte("estuary/ledger-spend/v1\x00"))
	writeField(h, id)
	writeField(h, binary.BigEndian.AppendUint64(nil, uint64(used)))
	return h.Sum(nil)
}

// spendKey names the credential that was used up.
func spendKey(ids [][]byte) []byte {
	h := sha256.New()
	writeField(h, []byte("estuary/spend-key/v1"))
	for _, id := range ids {
		writeField(h, id)
	}
	return h.Sum(nil)
}

// spendIDs returns the ids once each and in one order: transactions that lock the same
// rows in different orders would wait for each other.
func spendIDs(s *assertionv1.Spend) [][]byte {
	ids := slices.Clone(s.GetIds())
	slices.SortFunc(ids, bytes.Compare)
	return slices.CompactFunc(ids, bytes.Equal)
}
