// Package reload turns files that change into what they hold now.
//
// Whoever serves TLS asks it at every handshake: the certificates of the mesh, of the EST
// listener and of the admin API. It knows nothing of what the files mean.
package reload

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what a Files needs. Every field is required.
type Config[T any] struct {
	// Paths are the files, which are read together. An empty one counts as never changing.
	Paths []string
	// Read returns what the files hold; its result is never changed.
	Read func() (T, error)
	// Loaded is told of every later content that could be used.
	Loaded func(fresh T)
	// Kept is told, once for each change of the files, why the current content stays.
	Kept func(current T, err error)
}

// Files holds the last content that could be used. It is safe for concurrent use.
type Files[T any] struct {
	config Config[T]

	mu      sync.Mutex // guards what follows
	current T
	seen    []stamp // of the files when they were last read
	bad     error   // why what was read last could not be used
}

// Open reads the files for the first time.
func Open[T any](c Config[T]) (*Files[T], error) {
	seen := stamps(c.Paths) // before reading: a change in between is found later
	current, err := c.Read()
	if err != nil {
		return nil, err
	}
	return &Files[T]{config: c, current: current, seen: seen}, nil
}

// Current returns what the files hold now, or held when they could last be used.
func (f *Files[T]) Current() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := stamps(f.config.Paths)
	same := slices.Equal(seen, f.seen)
	// What was bad is read every time: a file that is written in two steps within one tick
	// of the file system's clock must not stay bad for ever.
	if same && f.bad == nil {
		return f.current
	}
	fresh, err := f.config.Read()
	again := f.bad != nil && same
	f.seen, f.bad = seen, err
	switch {
	case err == nil:
		f.current = fresh
		f.config.Loaded(fresh)
	case !again:
		f.config.Kept(f.current, err)
	}
	return f.current
}

// Bad returns why the files, as Current last saw them, cannot be used; nil when they can.
func (f *Files[T]) Bad() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bad
}

// stamp tells whether a file has changed since it was read. A file that is not there has the
// zero value.
type stamp struct {
	device, inode uint64
	size          int64
	modified      time.Duration
	changed       time.Duration
}

func stamps(paths []string) []stamp {
	all := make([]stamp, len(paths))
	for i, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			continue // reading it says why
		}
		all[i] = stamp{
			device: st.Dev, inode: st.Ino, size: st.Size,
			modified: time.Duration(st.Mtim.Nano()), changed: time.Duration(st.Ctim.Nano()),
		}
	}
	return all
}
