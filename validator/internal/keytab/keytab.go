// Package keytab turns a Kerberos keytab file into the keys that open tickets.
//
// cmd/validator opens it and gives its keys to kerberos. The file is read again whenever it
// has changed. What cannot be used keeps the keys that were there; keys that have left it are
// kept for as long as tickets under them may live.
package keytab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/estuary-pki/estuary/services/reload"
	"github.com/estuary-pki/estuary/services/secret"
)

const (
	// maxRemoved bounds the keys that are kept although they have left the file.
	maxRemoved = 256
	// maxCandidates bounds the keys that are tried on a ticket without a version.
	maxCandidates = 8
	// maxWaiting bounds who waits for a version that is not there yet. Anybody can claim one:
	// it is far below the streams that a gateway has to a validator.
	maxWaiting = 32
	// waitStep is the time between two looks at the file, waitTime all of it.
	waitStep, waitTime = 50 * time.Millisecond, time.Second
)

// Config is what a Keytab needs; every field is required.
type Config struct {
	// Path is the file.
	Path string
	// Principals are those that need a key in it.
	Principals []string
	// KeepRemoved is for how long a key that has left the file is used.
	KeepRemoved time.Duration
	// Log hears what became of a changed file.
	Log *slog.Logger
	// Metrics has a gauge that is 1 while the file cannot be used.
	Metrics *metrics.Set
	// Now tells the time.
	Now func() time.Time
}

// Keytab is the keys of a file. It is safe for concurrent use.
type Keytab struct {
	c       Config
	files   *reload.Files[[]Entry]
	waiting chan struct{} // holds one for each who waits

	mu      sync.Mutex
	removed []removed // guarded by mu; newest first
	current []Entry   // guarded by mu; of the file. What leaves these two is wiped
}

// removed is a key that has left the file.
type removed struct {
	Entry
	until time.Time
}

// Open reads the file. The error says why it cannot be used, and what is there instead of a
// key that is missing.
func Open(c Config) (*Keytab, error) {
	if c.Path == "" || len(c.Principals) == 0 || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("a keytab needs a file, principals, a log, metrics and a clock")
	}
	k := &Keytab{c: c, waiting: make(chan struct{}, maxWaiting)}
	var err error
	k.files, err = reload.Open(reload.Config[[]Entry]{
		Paths: []string{c.Path}, Read: k.read, Loaded: k.loaded,
		Kept: func(current []Entry, err error) {
			c.Log.Error("the keytab cannot be used, the keys that were there stay", slog.String("err", err.Error()), slog.String("keys", summary(current)))
		},
	})
	if err != nil {
		return nil, err
	}
	k.current = k.files.Current()
	c.Metrics.GetOrCreateGauge("estuary_validator_keytab_bad", func() float64 {
		if k.bad() != nil {
			return 1
		}
		return 0
	})
	return k, nil
}

// Check says why the file, as it is now, cannot be used.
func (k *Keytab) Check(context.Context) error { return k.bad() }

func (k *Keytab) bad() error {
	k.files.Current()
	err := k.files.Bad() // never under mu: loaded takes mu under the lock of files
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetOld() // here too: it may be long until the next ticket comes
	return err
}

func (k *Keytab) read() ([]Entry, error) {
	entries, err := Load(k.c.Path)
	if err != nil {
		return nil, err
	}
	if missing := Missing(entries, k.c.Principals); len(missing) > 0 {
		wipe(entries)
		return nil, fmt.Errorf("keytab %s has no AES key of %s: it holds %s", k.c.Path, missing[0], summary(entries))
	}
	return entries, nil
}

// Missing returns those of the principals that have no usable key.
func Missing(entries []Entry, principals []string) (missing []string) {
	for _, p := range principals {
		if !slices.ContainsFunc(entries, func(e Entry) bool { return e.Principal == p && e.Usable() }) {
			missing = append(missing, p)
		}
	}
	return missing
}

// Load reads a keytab file: at most 1 MiB, and closed to everybody else.
func Load(path string) ([]Entry, error) {
	file, err := secret.ReadBinary(path)
	if err != nil {
		return nil, fmt.Errorf("reading keytab: %w", err)
	}
	defer file.Wipe()
	entries, err := Parse(file.Reveal())
	if err != nil {
		return nil, fmt.Errorf("reading keytab %s: %w", path, err)
	}
	return entries, nil
}

// loaded keeps what a new file leaves out.
func (k *Keytab) loaded(fresh []Entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	until := k.c.Now().Add(k.c.KeepRemoved)
	for _, e := range k.current {
		if k.c.KeepRemoved > 0 && e.Usable() && !slices.ContainsFunc(fresh, e.same) {
			k.removed = slices.Insert(k.removed, 0, removed{Entry: e, until: until})
		} else {
			e.Key.Wipe()
		}
	}
	k.current = fresh
	k.forget(func(r removed) bool { return slices.ContainsFunc(fresh, r.same) })
	k.forgetOld()
	if len(k.removed) > maxRemoved {
		for _, r := range k.removed[maxRemoved:] {
			r.Key.Wipe()
		}
		k.removed = slices.Delete(k.removed, maxRemoved, len(k.removed))
	}
	k.c.Log.Info("keytab loaded", slog.String("keys", summary(fresh)), slog.Int("kept", len(k.removed)))
}

// forgetOld forgets the keys that have been kept for their time. The caller holds mu.
func (k *Keytab) forgetOld() {
	now := k.c.Now()
	k.forget(func(r removed) bool { return !now.Before(r.until) })
}

// forget wipes the keys for which over says so, and drops them. The caller holds mu.
func (k *Keytab) forget(over func(removed) bool) {
	k.removed = slices.DeleteFunc(k.removed, func(r removed) bool {
		gone := over(r)
		if gone {
			r.Key.Wipe()
		}
		return gone
	})
}

func wipe(entries []Entry) {
	for _, e := range entries {
		e.Key.Wipe()
	}
}

func (e Entry) same(o Entry) bool {
	return e.Principal == o.Principal && e.KVNO == o.KVNO && e.EType == o.EType && e.Key.Equal(o.Key)
}

// Keys returns the keys that may open a ticket, in the order in which they are tried: those of
// the file before those that have left it, and newer versions before older ones where kvno is
// 0, which stands for any. For a version that is newer than all that are known it waits up to
// a second: kadmin changes the KDC's key first and writes the file then. They are copies: the
// keys themselves are wiped when their time is over.
func (k *Keytab) Keys(ctx context.Context, principal string, kvno uint32, etype int32) []secret.Bytes {
	found, newest := k.look(principal, kvno, etype)
	if len(found) > 0 || kvno <= newest {
		return found
	}
	select {
	case k.waiting <- struct{}{}:
		defer func() { <-k.waiting }()
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	tick := time.NewTicker(waitStep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if found, _ = k.look(principal, kvno, etype); len(found) > 0 {
			return found
		}
	}
}

// look returns what is known now, and the newest version of the principal.
func (k *Keytab) look(principal string, kvno uint32, etype int32) (found []secret.Bytes, newest uint32) {
	k.files.Current() // what it returns may be wiped by now; k.current is not
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetOld()
	var fit []Entry
	for _, e := range k.current {
		if e.Principal == principal {
			newest = max(newest, e.KVNO)
			if e.opens(kvno, etype) {
				fit = append(fit, e)
			}
		}
	}
	slices.SortStableFunc(fit, newer)
	var old []Entry
	for _, r := range k.removed {
		if r.Principal == principal && r.opens(kvno, etype) {
			old = append(old, r.Entry)
		}
	}
	slices.SortStableFunc(old, newer)
	fit = append(fit, old...)
	for _, e := range fit[:min(len(fit), maxCandidates)] {
		found = append(found, secret.New(bytes.Clone(e.Key.Reveal())))
	}
	return found, newest
}

// opens tells whether a ticket of that version and encryption type may be under the key.
func (e Entry) opens(kvno uint32, etype int32) bool {
	return e.Usable() && e.EType == etype && (kvno == 0 || kvno == e.KVNO || e.Short && kvno&0xff == e.KVNO)
}

func newer(a, b Entry) int { return cmp.Compare(b.KVNO, a.KVNO) }

// summary names principals with their versions and encryption types, never keys.
func summary(entries []Entry) string {
	if len(entries) == 0 {
		return "nothing"
	}
	var parts []string
	for _, e := range entries {
		part := fmt.Sprintf("%.80q version %d %s", e.Principal, e.KVNO, Name(e.EType))
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	const most = 20
	if n := len(parts); n > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(parts, ", ")
}
