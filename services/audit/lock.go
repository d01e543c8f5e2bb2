package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/estuary-pki/estuary/services/filelock"
)

// lockFile takes the exclusive lock beside a checkpoint file, for the life of the returned
// file: of two that write one checkpoint file each would find the other's checkpoints and
// take the database for one that was set back.
func lockFile(path string) (*os.File, error) {
	f, err := filelock.Take(path+".lock", filepath.Base(os.Args[0]), time.Now())
	var held *filelock.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("another process keeps its audit checkpoint in %s: stop it, or give each of them a file of its own: %w", path, err)
	}
	return f, err
}
