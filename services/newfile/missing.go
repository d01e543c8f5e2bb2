package newfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Missing tells whether none of the paths exists. Some that do and some that do not are an
// error: what belongs together is made together.
func Missing(paths ...string) (bool, error) {
	var there, absent string
	for _, path := range paths {
		switch _, err := os.Lstat(path); {
		case err == nil:
			there = path
		case errors.Is(err, fs.ErrNotExist):
			absent = path
		default:
			return false, fmt.Errorf("looking for a file: %w", err)
		}
	}
	if there != "" && absent != "" {
		return false, fmt.Errorf("%s is there, and %s, which belongs to it, is not", there, absent)
	}
	return there == "", nil
}
