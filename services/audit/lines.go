package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// maxLine is the most octets of an exported line; a record has some hundred.
const maxLine = 1 << 20

// Line is a line of an exported stream: a record or a checkpoint.
type Line struct {
	// Seq and Hash are the record's, or those of the checkpoint.
	Seq  int64
	Hash [sha256.Size]byte
	// Checkpoint is nil for a record. Its signature has not been verified.
	Checkpoint *Checkpoint
}

// ReadLines returns the records and checkpoints of an exported stream, which can be gone
// through once. Other lines are passed over: those of processes without a chain, those of
// other programs, and one that was cut off. A line of more than 1 MiB is an error, as is a
// record or checkpoint that cannot be read; it is the last item then.
func ReadLines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		n := 1
		for ; lines.Scan(); n++ {
			l, ok, err := parseLine(lines.Bytes())
			if err != nil {
				yield(Line{}, fmt.Errorf("reading line %d: %w", n, err))
				return
			}
			if ok && !yield(l, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Line{}, fmt.Errorf("reading line %d: %w", n, err))
		}
	}
}

// parseLine reads a line and tells whether it is one of a chain.
func parseLine(text []byte) (l Line, ok bool, err error) {
	var read struct {
		Seq        int64           `json:"seq"`
		Hash       string          `json:"hash"`
		Audit      json.RawMessage `json:"audit"`
		Checkpoint json.RawMessage `json:"checkpoint"`
	}
	ours := json.Unmarshal(text, &read) == nil
	switch {
	case !ours:
		return Line{}, false, nil
	case read.Checkpoint != nil && read.Checkpoint[0] == '{':
		c := new(Checkpoint)
		if err := c.UnmarshalJSON(read.Checkpoint); err != nil {
			return Line{}, false, err
		}
		return Line{Seq: c.Seq, Hash: c.Hash, Checkpoint: c}, true, nil
	case read.Audit == nil || read.Seq < 1:
		return Line{}, false, nil
	}
	l.Seq = read.Seq
	return l, true, parseHash(&l.Hash, read.Hash)
}

// format returns the line of a record.
func (e Entry) format() line {
	return line{Seq: e.Seq, Hash: hex.EncodeToString(e.Hash[:]), Audit: e.JSON}
}

// Export writes the records behind number after, and every checkpoint behind its record, as
// the lines that a Stream writes. It writes what the database has at its beginning.
func Export(ctx context.Context, db Database, after int64, w io.Writer) error {
	v, err := look(ctx, db)
	if err != nil {
		return err
	}
	for n := pageSize; n == pageSize; {
		var out bytes.Buffer
		if n, after, err = exportPage(ctx, db, after, v.end, json.NewEncoder(&out)); err != nil {
			return err
		}
		if _, err := w.Write(out.Bytes()); err != nil {
			return fmt.Errorf("writing exported audit records: %w", err)
		}
	}
	return nil
}

// exportPage writes the next page and returns how many records it has, and the last one.
func exportPage(ctx context.Context, db Database, after, end int64, out *json.Encoder) (n int, last int64, err error) {
	var all []Entry
	n, err = page(ctx, db, after, end, func(r *row) {
		all = append(all, Entry{Seq: r.seq, Hash: fixed(r.hash), JSON: bytes.Clone(r.record)})
	})
	if err != nil || n == 0 {
		return 0, after, err
	}
	last = all[len(all)-1].Seq
	var signed []Checkpoint
	err = db.Read(ctx, func(ctx context.Context, tx Transaction) (err error) {
		signed, err = readCheckpoints(ctx, tx, `SELECT `+checkpointColumns+
			` FROM audit_checkpoint WHERE seq > $1 AND seq <= $2 ORDER BY seq`, after, last)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("reading the audit checkpoints: %w", err)
	}
	for _, e := range all {
		if err := out.Encode(e.format()); err != nil {
			return 0, 0, fmt.Errorf("exporting audit record %d: %w", e.Seq, err)
		}
		for ; len(signed) > 0 && signed[0].Seq <= e.Seq; signed = signed[1:] {
			if err := out.Encode(checkpointLine{&signed[0]}); err != nil {
				return 0, 0, fmt.Errorf("exporting the checkpoint of audit record %d: %w", signed[0].Seq, err)
			}
		}
	}
	return n, last, nil
}
