package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/store"
)

// TestFullDisk runs itself again in a mount namespace of its own, where it may have a
// small file system without touching the machine's; for a user other than root that takes
// a user namespace, too.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("ESTUARY_STORE_FULL"); dir != "" {
		fillDisk(t, dir)
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), "ESTUARY_STORE_FULL="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if id := os.Getuid(); id != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFullDisk")) {
		t.Errorf("in the namespace: %v (it takes root or unprivileged user namespaces)\n%s", err, out)
	}
}

func fillDisk(t *testing.T, dir string) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal("making the mounts private: ", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal("mounting a small file system: ", err)
	}
	var log bytes.Buffer
	db, err := store.Open(t.Context(), store.Config{
		URL: "sqlite:" + filepath.Join(dir, "store.db"), Holder: "x", Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), fstest.MapFS{"0001_item.sql": {Data: []byte(schema)}}); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}

	// Two rounds: what recovered once must recover again.
	written := 0
	for round := range 2 {
		ok, refused := writeUntilFull(t, db, round*10000)
		written += ok
		if refused == 0 {
			t.Fatal("the disk never fills up")
		}
		if n := count(t, db); n != written {
			t.Errorf("round %d: %d rows can be read on the full disk, %d were written", round, n, written)
		}
		if err := os.Truncate(ballast, int64(1-round)<<20); err != nil {
			t.Fatal(err)
		}
		if err := db.Write(t.Context(), insert(round*10000+9999)); err != nil {
			t.Fatalf("round %d: the disk has room again: %v", round, err)
		}
		written++
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"the store cannot be written", "the store can be written again"} {
		if strings.Count(log.String(), line) < 2 {
			t.Errorf("the log does not say twice %q:\n%s", line, log.String())
		}
	}
}

// writeUntilFull writes 20 kB rows from several goroutines until each has been refused.
func writeUntilFull(t *testing.T, db *store.DB, base int) (written, refused int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for w := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				err := db.Write(t.Context(), func(ctx context.Context, tx store.Tx) error {
					id := base + w*1000 + i
					_, err := tx.Exec(ctx, `INSERT INTO item (id, name, body) VALUES ($1, $2, $3)`, id, fmt.Sprint(id), make([]byte, 20000))
					return err
				})
				mu.Lock()
				if err == nil {
					written++
				} else {
					refused++
				}
				mu.Unlock()
				if err != nil && fault.KindOf(err) != fault.Unavailable {
					t.Errorf("on a full disk: %v, want Unavailable", err)
				}
				if err != nil || i == 999 {
					return
				}
			}
		})
	}
	all.Wait()
	return written, refused
}
