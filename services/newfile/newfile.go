// Package newfile turns a set of contents into files that did not exist before, all or none of them.
//
// Whoever makes keys and certificates writes them with it: half a pair is worse than none,
// and overwriting a key cannot be undone. Package secret writes single keys with it.
package newfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of files.
const (
	// Secret is for keys: only the owner reads them.
	Secret fs.FileMode = 0o600
	// Open is for certificates and requests.
	Open fs.FileMode = 0o644
)

// File is a file to write.
type File struct {
	Path string
	Data []byte
	Mode fs.FileMode
}

// Write writes all files and waits until they are on the disk. When one of them exists or
// cannot be written, those already made are removed again; the error of an existing one is
// fs.ErrExist.
func Write(files ...File) (err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range made {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	for _, f := range files {
		if err := create(f); err != nil {
			return err
		}
		made = append(made, f.Path)
	}
	return nil
}

// Replace writes a file beside path and moves it there: a reader sees the old contents or
// the new, never a part.
func Replace(f File) error {
	beside := f
	beside.Path = f.Path + ".new"
	if err := os.Remove(beside.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what an earlier attempt left: %w", err)
	}
	if err := create(beside); err != nil {
		return err
	}
	if err := os.Rename(beside.Path, f.Path); err != nil {
		return fmt.Errorf("replacing %s: %w", f.Path, errors.Join(err, os.Remove(beside.Path)))
	}
	return syncFolder(filepath.Dir(f.Path))
}

func create(f File) error {
	h, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
	if err != nil {
		return fmt.Errorf("creating file: %w", err)
	}
	_, err = h.Write(f.Data)
	if err := errors.Join(err, h.Sync(), h.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", f.Path, errors.Join(err, os.Remove(f.Path)))
	}
	return syncFolder(filepath.Dir(f.Path))
}

// syncFolder makes a new name durable: without it a crash can lose a file whose contents
// are on the disk.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing folder %s: %w", dir, err)
	}
	return nil
}
