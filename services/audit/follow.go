package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"hash"
	"time"
)

// pageSize is how many records are read in one transaction: a long one would keep SQLite
// from shortening its journal, and PostgreSQL from cleaning up.
const pageSize = 4096

// row is a record as it lies in the database. Its octets are the driver's, until the next.
type row struct {
	seq, at           int64
	record, hash, mac sql.RawBytes
}

// page calls each for the records behind after and up to end, pageSize at most, each once,
// and returns how many there were.
func page(ctx context.Context, db Database, after, end int64, each func(*row)) (n int, err error) {
	seen := after
	err = db.Read(ctx, func(ctx context.Context, tx Transaction) error {
		n = 0 // the store may run this again
		rows, err := tx.Query(ctx, `SELECT seq, at, record, hash, mac FROM audit_record WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`,
			after, end, pageSize)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // its error is that of Err
		for r := new(row); rows.Next(); n++ {
			if err := rows.Scan(&r.seq, &r.at, &r.record, &r.hash, &r.mac); err != nil {
				return err
			}
			if r.seq <= seen {
				continue
			}
			seen = r.seq
			each(r)
		}
		return rows.Err()
	})
	if err != nil {
		return 0, fmt.Errorf("reading the audit chain: %w", err)
	}
	return n, nil
}

// follower goes along the chain, record by record.
type follower struct {
	position
	// stored is the hash of the record before as it lies in the database, where that record
	// was altered another one than hash.
	stored [sha256.Size]byte
	// linked says that the hash of the record before is known.
	linked bool
	// sealed says that the records have MACs from here on.
	sealed bool
	// last is the time of the record before.
	last time.Time

	linker, sealer hash.Hash
	link, mac      [sha256.Size]byte
}

// follow returns a follower that stands at a place in the chain. Without a chain's key it
// looks at no MAC.
func follow(c *Chain, from position, sealed bool) *follower {
	f := &follower{position: from, stored: from.hash, linked: true, sealed: sealed, linker: sha256.New()}
	if c != nil {
		f.sealer = hmac.New(sha256.New, c.recordKey)
	}
	return f
}

// next goes on to r and tells what is wrong with it, or between it and the one before.
func (f *follower) next(r *row, wrong func(seq int64, what string)) {
	if r.seq < 1 {
		wrong(r.seq, fmt.Sprintf("record %d stands before the first", r.seq))
		return
	}
	if r.seq > f.seq+1 {
		wrong(f.seq+1, lacking(f.seq+1, r.seq-1))
		f.linked = false
	}
	f.seq = r.seq
	if what := f.look(r); what != "" {
		wrong(r.seq, fmt.Sprintf("record %d %s", r.seq, what))
	}
}

// lacking says which records are missing.
func lacking(from, to int64) string {
	if from == to {
		return fmt.Sprintf("record %d is missing", from)
	}
	return fmt.Sprintf("records %d to %d are missing", from, to)
}

// look returns what is wrong with r itself, and takes its hash and time.
func (f *follower) look(r *row) string {
	var ok bool
	if f.last, ok = recordTime(r.record); !ok || f.last.UnixMicro() != r.at {
		// The time stands in the text, and the hash covers that alone.
		f.step(r)
		return "was altered: its time is not the one in its text"
	}
	follows, sealed := f.step(r)
	switch {
	case !follows:
		return "was altered: its hash does not follow from its text and the record before it"
	case !sealed && len(r.mac) == 0:
		return "was altered: it has no MAC"
	case !sealed:
		return "was altered: its MAC is not made with this service's key"
	}
	return ""
}

// step tells whether the hash of r follows and whether its MAC is good, and goes on with the
// hash that has the MAC, so that one altered record does not spoil all behind it.
func (f *follower) step(r *row) (follows, sealed bool) {
	follows = len(r.hash) == sha256.Size
	if f.linked {
		// Whoever goes on behind a record whose hash was altered goes on from what is there.
		follows = follows && (f.joins(f.stored, r) || f.joins(f.hash, r))
	}
	f.stored = fixed(r.hash)
	sealed = f.sealer == nil || len(r.mac) == 0 && !f.sealed || f.made(r.mac, r.seq, r.hash)
	f.sealed = f.sealed || len(r.mac) > 0
	if !follows && f.sealer != nil && f.linked && !sealed && f.made(r.mac, r.seq, f.link[:]) {
		f.hash = f.link // the hash was altered, neither the text nor the MAC
		return false, true
	}
	f.hash, f.linked = f.stored, true
	return follows, sealed
}

// joins tells whether the hash of r follows from its text and the hash before it, and leaves
// the one that would in f.link.
func (f *follower) joins(before [sha256.Size]byte, r *row) bool {
	link(f.linker, f.link[:0], before[:], r.seq, r.record)
	return bytes.Equal(f.link[:], r.hash)
}

// made tells whether mac is that of a record with this hash.
func (f *follower) made(mac []byte, seq int64, hash []byte) bool {
	return hmac.Equal(seal(f.sealer, f.mac[:0], seq, hash), mac)
}

// recordTime reads the time out of a record's text, whose first member it is.
func recordTime(text []byte) (time.Time, bool) {
	text, _, ok := cutTime(text)
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return t, err == nil
}

// cutTime returns the text of a record's time and what stands behind it.
func cutTime(text []byte) (at, rest []byte, ok bool) {
	text, ok = bytes.CutPrefix(text, []byte(`{"time":"`))
	end := bytes.IndexByte(text[:min(len(text), len(time.RFC3339Nano)+1)], '"')
	if !ok || end < 0 {
		return nil, nil, false
	}
	return text[:end], text[end+1:], true
}

// isAcceptance tells whether a record is one of Accept, by the member behind its time.
func isAcceptance(text []byte) bool {
	_, rest, _ := cutTime(text)
	return bytes.HasPrefix(rest, []byte(`,"event":"`+acceptedEvent+`",`))
}
