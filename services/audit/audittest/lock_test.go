package audittest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/store/storetest"
)

// A checkpoint file is one process's, for as long as its keeper lives.
func TestFileIsOfOneProcess(t *testing.T) {
	l := history(t, storetest.Open(t, storetest.SQLite(t)))
	k, err := l.keeper(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := "another process keeps its audit checkpoint in " + l.file + ":"
	refused := func(when string) {
		t.Helper()
		if _, err := l.keeper(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", when, err)
		}
		_, err := audit.Accept(t.Context(), audit.AcceptConfig{DB: l.db, Chain: l.chain, File: l.file, Reason: "x"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("accepted %s: %v", when, err)
		}
	}
	refused("before Run")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }() // ends with cancel
	refused("during Run")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	l.keep(t)

	release := hold(t, l.file)
	refused("in another process")
	if err := k.Run(ctx); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("running again: %v", err)
	}
	release()
	l.keep(t)
}

// holder names the file that this process is to lock, in place of its tests.
const holder = "ESTUARY_TEST_HOLDS"

func TestMain(m *testing.M) {
	path := os.Getenv(holder)
	if path == "" {
		os.Exit(m.Run())
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	fmt.Println("locked:", err)
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or its parent dies
	runtime.KeepAlive(f)
}

// hold has another process lock the file, until it is killed.
func hold(t *testing.T, file string) (release func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), holder+"="+file+".lock"), os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked: <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
}
