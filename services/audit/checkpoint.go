package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
)

// SchemaCheckpoints is the DDL of checkpoints and of the MACs of records, for the migration
// that follows Schema. Records written before it have no MAC.
const SchemaCheckpoints = `ALTER TABLE audit_record ADD COLUMN mac BYTEA;
CREATE TABLE audit_checkpoint (
    seq BIGINT PRIMARY KEY,
    previous BIGINT NOT NULL UNIQUE,
    hash BYTEA NOT NULL,
    at BIGINT NOT NULL,
    signature BYTEA NOT NULL
);
`

// maxCheckpointFile is far more than a checkpoint takes, in octets.
const maxCheckpointFile = 4096

// Checkpoint is the signed statement that the chain has a record with this number and this
// hash, and so all those before it.
type Checkpoint struct {
	// Seq is the number of the record.
	Seq int64
	// Previous is the record of the checkpoint before this one, 0 when it is the first.
	Previous int64
	// Hash is the record's.
	Hash [sha256.Size]byte
	// At is when it was signed, in microseconds.
	At time.Time
	// Signature is that of Ed25519 over all of this.
	Signature []byte
}

// Verify tells whether the holder of the key has signed c.
func (c Checkpoint) Verify(public ed25519.PublicKey) bool {
	return ed25519.Verify(public, c.message(), c.Signature)
}

func (c Checkpoint) sign(key ed25519.PrivateKey) Checkpoint {
	c.Signature = ed25519.Sign(key, c.message())
	return c
}

// message is what is signed.
func (c Checkpoint) message() []byte {
	m := []byte("estuary/audit-checkpoint/v1\x00")
	m = binary.BigEndian.AppendUint64(m, uint64(c.Seq))
	m = binary.BigEndian.AppendUint64(m, uint64(c.Previous))
	m = append(m, c.Hash[:]...)
	return binary.BigEndian.AppendUint64(m, uint64(c.At.UnixMicro()))
}

// checkpointJSON is a checkpoint on the stream and in its file.
type checkpointJSON struct {
	Seq       int64     `json:"seq"`
	Previous  int64     `json:"previous"`
	Hash      string    `json:"hash"`
	At        time.Time `json:"at"`
	Signature string    `json:"signature"`
}

// MarshalJSON writes the checkpoint as it stands on the stream.
func (c Checkpoint) MarshalJSON() ([]byte, error) {
	return json.Marshal(checkpointJSON{
		Seq: c.Seq, Previous: c.Previous, Hash: hex.EncodeToString(c.Hash[:]), At: c.At.UTC(),
		Signature: base64.StdEncoding.EncodeToString(c.Signature),
	})
}

// UnmarshalJSON reads what MarshalJSON writes. It does not verify the signature.
func (c *Checkpoint) UnmarshalJSON(text []byte) error {
	var j checkpointJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("reading a checkpoint: %w", err)
	}
	if j.Seq < 1 || j.Previous < 0 || j.Previous >= j.Seq {
		return fmt.Errorf("reading a checkpoint: record %d cannot follow the checkpoint of %d", j.Seq, j.Previous)
	}
	read := Checkpoint{Seq: j.Seq, Previous: j.Previous, At: j.At.UTC()}
	if err := parseHash(&read.Hash, j.Hash); err != nil {
		return fmt.Errorf("reading a checkpoint: %w", err)
	}
	var err error
	if read.Signature, err = base64.StdEncoding.Strict().DecodeString(j.Signature); err != nil || len(read.Signature) != ed25519.SignatureSize {
		return errors.New("reading a checkpoint: its signature is not 64 octets in base64")
	}
	*c = read
	return nil
}

func parseHash(to *[sha256.Size]byte, text string) error {
	if hash, err := hex.DecodeString(text); err != nil || copy(to[:], hash) != sha256.Size || len(hash) != sha256.Size {
		return errors.New("the hash is not 32 octets in hexadecimal")
	}
	return nil
}

// checkpointLine is a checkpoint on a line of its own.
type checkpointLine struct {
	Checkpoint *Checkpoint `json:"checkpoint"`
}

// insert writes c into the database, unless somebody else has signed the same record, or has
// gone on from the same checkpoint.
func (c Checkpoint) insert(ctx context.Context, tx Transaction) (first bool, err error) {
	n, err := tx.Exec(ctx, `INSERT INTO audit_checkpoint (`+checkpointColumns+`) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		c.Seq, c.Previous, c.Hash[:], c.At.UnixMicro(), c.Signature)
	if err != nil {
		return false, fmt.Errorf("writing an audit checkpoint: %w", err)
	}
	return n == 1, nil
}

// save writes c alone into the file, in place of an older one, and returns when it is on
// the disk.
func (c Checkpoint) save(path string) error {
	text, err := json.Marshal(checkpointLine{&c})
	if err != nil {
		return fmt.Errorf("encoding a checkpoint: %w", err)
	}
	if err := newfile.Replace(newfile.File{Path: path, Data: append(text, '\n'), Mode: newfile.Secret}); err != nil {
		return fmt.Errorf("saving the audit checkpoint: %w", err)
	}
	return nil
}

// ReadCheckpoint reads the file of a Keeper, and whether there is one. It refuses a
// checkpoint that does not verify under the key.
func ReadCheckpoint(path string, public ed25519.PublicKey) (c Checkpoint, exists bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, false, nil
	}
	if err != nil {
		return Checkpoint{}, false, fmt.Errorf("opening the audit checkpoint: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxCheckpointFile+1))
	if err != nil {
		return Checkpoint{}, false, fmt.Errorf("reading the audit checkpoint %s: %w", path, err)
	}
	read := checkpointLine{&c}
	switch err := json.Unmarshal(text, &read); {
	case len(text) > maxCheckpointFile, err != nil, read.Checkpoint == nil, c.Seq == 0:
		return Checkpoint{}, false, fmt.Errorf("reading the audit checkpoint: %s does not hold one: if nobody can tell why, move it away and verify the database", path)
	case !c.Verify(public):
		return Checkpoint{}, false, fmt.Errorf("the audit checkpoint in %s is not signed with this service's key: it is another service's, it was altered, or the MAC key is a new one", path)
	}
	return c, true, nil
}
