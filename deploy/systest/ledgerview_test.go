package systest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// The states of an entry, as the signer stores them.
const (
	stateIntent = 1
	stateIssued = 2
	stateFailed = 3
)

// ledgerRow is what the tests look at of an entry of the ledger.
type ledgerRow struct {
	serial, principal string
	state             int
	created           int64 // microseconds since 1970
	certificate       []byte
}

// ledgerView is what a signers' store holds at a moment.
type ledgerView struct {
	rows    []ledgerRow
	issued  map[string]int // audit records certificate.issued, by serial
	used    int64          // uses taken of all tokens
	serials map[string]ledgerRow
}

// openStore opens the store of a service beside it, for reading; the drivers come with
// package store.
func openStore(url string) (*sql.DB, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	}
	return sql.Open("pgx", url)
}

// look reads the signers' store.
func (c *cluster) look() *ledgerView {
	c.t.Helper()
	v, err := readLedger(c.t.Context(), c.ledger)
	if err != nil {
		c.t.Fatalf("reading the ledger: %v", err)
	}
	return v
}

func readLedger(ctx context.Context, url string) (*ledgerView, error) {
	db, err := openStore(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	// One snapshot: the three answers have to fit together.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	v := &ledgerView{issued: map[string]int{}, serials: map[string]ledgerRow{}}
	err = each(ctx, tx, "SELECT serial, principal, state, created_at, certificate FROM entry ORDER BY seq", func(rows *sql.Rows) error {
		var r ledgerRow
		err := rows.Scan(&r.serial, &r.principal, &r.state, &r.created, &r.certificate)
		v.rows = append(v.rows, r)
		v.serials[r.serial] = r
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, tx, "SELECT record FROM audit_record", func(rows *sql.Rows) error {
		var text string
		var record struct{ Event, Serial string }
		if err := rows.Scan(&text); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(text), &record)
		if record.Event == "certificate.issued" {
			v.issued[record.Serial]++
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, tx.QueryRowContext(ctx, "SELECT COALESCE(SUM(used), 0) FROM spend").Scan(&v.used)
}

func each(ctx context.Context, tx *sql.Tx, query string, f func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// of returns the rows of a principal that were not given up.
func (v *ledgerView) of(principal string) (rows []ledgerRow) {
	for _, r := range v.rows {
		if r.principal == principal && r.state != stateFailed {
			rows = append(rows, r)
		}
	}
	return rows
}

// count returns how many rows are in a state.
func (v *ledgerView) count(state int) (n int) {
	for _, r := range v.rows {
		if r.state == state {
			n++
		}
	}
	return n
}

// judge checks what always has to hold: serials are unique; every certificate that a client
// holds is issued, the same bytes; what is issued is on record exactly once, and nothing
// else is; and as many uses of tokens were taken as there are rows for them.
func (v *ledgerView) judge(t *testing.T, held [][]byte) {
	t.Helper()
	if len(v.serials) != len(v.rows) {
		t.Errorf("%d rows have %d serials", len(v.rows), len(v.serials))
	}
	for _, r := range v.rows {
		if err := r.sound(); err != nil {
			t.Errorf("serial %s of %s: %v", r.serial, r.principal, err)
		}
		if want := map[bool]int{true: 1}[r.state == stateIssued]; v.issued[r.serial] != want {
			t.Errorf("serial %s of %s in state %d has %d records certificate.issued", r.serial, r.principal, r.state, v.issued[r.serial])
		}
	}
	if n := v.count(stateIssued); len(v.issued) != n {
		t.Errorf("%d serials are recorded as issued, %d rows are", len(v.issued), n)
	}
	if n := int64(v.count(stateIssued) + v.count(stateIntent)); v.used != n {
		t.Errorf("%d uses were taken for %d rows", v.used, n)
	}
	for _, der := range held {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := v.serials[serialOf(leaf.SerialNumber)]
		if !ok || r.state != stateIssued || !bytes.Equal(r.certificate, der) {
			t.Errorf("a client holds serial %x of %s: the ledger has it: %v, in state %d, the same bytes: %v",
				leaf.SerialNumber, leaf.Subject.CommonName, ok, r.state, bytes.Equal(r.certificate, der))
		}
	}
}

// sound checks a row against its certificate.
func (r ledgerRow) sound() error {
	if r.state != stateIssued {
		if len(r.certificate) > 0 {
			return fmt.Errorf("a certificate in state %d", r.state)
		}
		return nil
	}
	leaf, err := x509.ParseCertificate(r.certificate)
	if err != nil {
		return err
	}
	if s := serialOf(leaf.SerialNumber); s != r.serial {
		return fmt.Errorf("the certificate has serial %s", s)
	}
	return nil
}

// serialOf returns a serial number as the ledger writes it.
func serialOf(n *big.Int) string { return fmt.Sprintf("%040x", n) }
