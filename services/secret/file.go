package secret

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/estuary-pki/estuary/services/newfile"
)

const (
	maxFile   = 64 << 10
	maxBinary = 1 << 20
)

// ReadFile reads a secret from a file of at most 64 KiB and drops one newline at its end.
// A file that everybody may read, write or execute is refused. Errors never carry contents.
func ReadFile(path string) (Bytes, error) {
	b, err := read(path, maxFile)
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	return New(b), err
}

// ReadBinary reads a secret that is no text, of at most 1 MiB, as it is, under the rules of
// ReadFile.
func ReadBinary(path string) (Bytes, error) {
	b, err := read(path, maxBinary)
	return New(b), err
}

func read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading secret %s: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("secret %s is not a regular file", path)
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("secret %s is open to everybody (mode %04o): chmod o= it", path, info.Mode().Perm())
	case info.Size() > limit:
		return nil, fmt.Errorf("secret %s has %d octets: at most %d are accepted", path, info.Size(), limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		clear(b)
		return nil, fmt.Errorf("reading secret %s: %w", path, err)
	}
	return b, nil
}

// ReadKey reads a symmetric key from a file that holds exactly size octets in hexadecimal,
// under the rules of ReadFile.
func ReadKey(path string, size int) (Bytes, error) {
	text, err := ReadFile(path)
	if err != nil {
		return Bytes{}, err
	}
	defer text.Wipe()
	key := make([]byte, hex.DecodedLen(text.Len()))
	// The error of hex names the offending octet: not repeated here.
	if _, err := hex.Decode(key, text.Reveal()); err != nil || len(key) != size {
		return Bytes{}, fmt.Errorf("key %s does not hold %d octets in hexadecimal (%d digits)", path, size, 2*size)
	}
	return New(key), nil
}

// WriteNew writes a secret to a new file of mode 0600 and waits until it is on the disk.
// An existing file is never overwritten: the error is fs.ErrExist then.
func WriteNew(path string, data []byte) error {
	if err := newfile.Write(newfile.File{Path: path, Data: data, Mode: newfile.Secret}); err != nil {
		return fmt.Errorf("writing secret: %w", err)
	}
	return nil
}
