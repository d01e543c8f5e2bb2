package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/secret"
)

const canary = "canary-b6d1"

func TestNeverPrinted(t *testing.T) {
	s := secret.New([]byte(canary))
	holder := struct {
		S secret.Bytes
		P *secret.Bytes
	}{s, &s}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("msg", slog.Any("s", s), slog.Any("h", holder))
	js, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(js)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%T"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder)
	}
	hexed := fmt.Sprintf("%x", canary)
	decimal := strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]")
	for _, leak := range []string{canary, hexed, strings.ToUpper(hexed), decimal} {
		if strings.Contains(out, leak) {
			t.Errorf("secret printed as %q in %q", leak, out)
		}
	}
	if !strings.Contains(out, "[secret]") {
		t.Error("nothing was printed at all")
	}
}

func TestTake(t *testing.T) {
	field := []byte(canary)
	s := secret.Take(&field)
	if field != nil {
		t.Error("the field still holds the secret")
	}
	if string(s.Reveal()) != canary || s.Len() != len(canary) {
		t.Error("the secret was lost")
	}
	if !s.Equal(secret.New([]byte(canary))) || s.Equal(secret.New([]byte("other"))) || s.Equal(secret.Bytes{}) {
		t.Error("Equal is wrong")
	}
	s.Wipe()
	if bytes.Contains(s.Reveal(), []byte("c")) {
		t.Error("Wipe left octets behind")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := secret.WriteNew(path, []byte("00ff10\n")); err != nil {
		t.Fatal(err)
	}
	if err := secret.WriteNew(path, []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwriting: %v", err)
	}
	if s, err := secret.ReadFile(path); err != nil || string(s.Reveal()) != "00ff10" {
		t.Errorf("ReadFile: %v", err)
	}
	if k, err := secret.ReadKey(path, 3); err != nil || !bytes.Equal(k.Reveal(), []byte{0, 0xff, 0x10}) {
		t.Errorf("ReadKey: %v", err)
	}
	if _, err := secret.ReadKey(path, 4); err == nil || strings.Contains(err.Error(), "00ff10") {
		t.Errorf("key of another size: %v", err)
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ReadFile(path); err == nil || !strings.Contains(err.Error(), "open to everybody") {
		t.Errorf("world-readable file: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, 65<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{big, dir, filepath.Join(dir, "none")} {
		if _, err := secret.ReadFile(bad); err == nil {
			t.Errorf("%s accepted", bad)
		}
	}
}
