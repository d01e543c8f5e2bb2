package audit

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile takes the exclusive lock beside a checkpoint file, for the life of the returned
// file: of two that write one checkpoint file each would find the other's checkpoints and
// take the database for one that was set back. The kernel gives the lock free when the
// process dies. Its file stays, because removing it would let two processes lock two files
// of one name.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the audit checkpoint: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another process keeps its audit checkpoint in %s: stop it, or give each of them a file of its own", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
