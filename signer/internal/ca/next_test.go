package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// rollover is a root with its next key.
type rollover struct {
	dir       string
	old, next ca.Config
	now       time.Time
}

func newRollover(t *testing.T, pathLen int) *rollover {
	t.Helper()
	r := &rollover{dir: t.TempDir(), now: time.Now()}
	file := func(name string) config.Path { return config.Path(filepath.Join(r.dir, name)) }
	r.old = ca.Config{Name: "ca", Certificate: file("old.crt"), Key: file("old.key")}
	r.next = ca.Config{Name: "ca", Certificate: file("next.crt"), Key: file("next.key"), PublishedAs: "ca-2", Announce: file("announce.pem")}
	if _, err := ca.Init(t.Context(), ca.Options{Files: r.old, KeyType: key.P256, Subject: "CN=Test CA,O=Test", PathLen: pathLen, Now: r.now.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rollover) make(t *testing.T, change func(*ca.NextOptions)) (*x509.Certificate, error) {
	t.Helper()
	o := ca.NextOptions{Current: r.old, Next: r.next, Announce: string(r.next.Announce), KeyType: key.P384, Now: r.now}
	if change != nil {
		change(&o)
	}
	return ca.Next(t.Context(), o)
}

// TestNext: who trusts one of the roots verifies what the other key signed, by OpenSSL's rules.
func TestNext(t *testing.T) {
	for _, pathLen := range []int{0, 2, -1} {
		r := newRollover(t, pathLen)
		next, err := r.make(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		current, err := ca.Load(t.Context(), r.next, r.now.Add(time.Second), log)
		if err != nil {
			t.Fatal(err)
		}
		former, err := ca.LoadFormer(t.Context(), ca.Former{PublishedAs: "ca", Certificate: r.old.Certificate, Key: r.old.Key}, current, r.now.Add(time.Second), log)
		if err != nil || former == nil || string(former.Certificate.RawSubject) != string(next.RawSubject) || next.MaxPathLen != former.Certificate.MaxPathLen {
			t.Fatalf("former %v, %v", former, err)
		}
		announced, err := ca.ReadAnnounced(r.next, []*x509.Certificate{next, former.Certificate})
		if err != nil || len(announced) != 4 {
			t.Fatalf("%d announced, %v", len(announced), err)
		}
		ties := filepath.Join(r.dir, "ties.pem")
		writePEM(t, ties, announced[1], announced[2])
		// Under OpenSSL self-issued certificates do not count for the length of a path.
		for anchor, by := range map[config.Path]*ca.Authority{r.old.Certificate: current, r.next.Certificate: former} {
			leaf := sign(t, by, r.dir)
			out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-x509_strict", "-CAfile", string(anchor), "-untrusted", ties, leaf).CombinedOutput()
			if err != nil {
				t.Errorf("path length %d, %s: %s", pathLen, filepath.Base(string(anchor)), out)
			}
		}
	}
}

// sign issues a certificate and returns its file.
func sign(t *testing.T, a *ca.Authority, dir string) string {
	t.Helper()
	serial, _, err := ca.NewSerial()
	if err != nil {
		t.Fatal(err)
	}
	private, err := key.Generate(key.P256)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.KeyID(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	draft, err := a.Draft(&x509.Certificate{
		SerialNumber: serial, RawSubject: []byte{0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 'x'}, SubjectKeyId: id,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Sign(t.Context(), draft.RawTBSCertificate)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "leaf.pem")
	writePEM(t, path, &x509.Certificate{Raw: der})
	return path
}

func writePEM(t *testing.T, path string, certificates ...*x509.Certificate) {
	t.Helper()
	var text []byte
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNextRefuses: what cannot be a change of the key, and nothing is left behind.
func TestNextRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ca.NextOptions)
		want   string
	}{
		"another key":         {func(o *ca.NextOptions) { o.Current.Key = o.Current.Certificate }, "old.crt"},
		"an end before":       {func(o *ca.NextOptions) { o.Validity = time.Hour }, "would end before the current one"},
		"a file is there":     {func(o *ca.NextOptions) { o.Announce = string(o.Current.Certificate) }, "old.crt"},
		"an unknown key type": {func(o *ca.NextOptions) { o.KeyType = "p224" }, "p224"},
	} {
		r := newRollover(t, 0)
		if _, err := r.make(t, c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		for _, file := range []config.Path{r.next.Certificate, r.next.Key} {
			if _, err := os.Stat(string(file)); err == nil {
				t.Errorf("%s: %s was left behind", name, file)
			}
		}
	}
}

// TestFormer: one that has ended is none, and the current key is no former one.
func TestFormer(t *testing.T) {
	r := newRollover(t, 0)
	if _, err := r.make(t, nil); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	current, err := ca.Load(t.Context(), r.next, r.now.Add(time.Second), log)
	if err != nil {
		t.Fatal(err)
	}
	old := ca.Former{PublishedAs: "ca", Certificate: r.old.Certificate, Key: r.old.Key}
	if former, err := ca.LoadFormer(t.Context(), old, current, r.now.Add(11*365*24*time.Hour), log); err != nil || former != nil {
		t.Errorf("behind its end: %v, %v", former, err)
	}
	old.Certificate, old.Key = r.next.Certificate, r.next.Key
	if _, err := ca.LoadFormer(t.Context(), old, current, r.now.Add(time.Second), log); err == nil || !strings.Contains(err.Error(), "key of the current one") {
		t.Errorf("the current key: %v", err)
	}
	stranger := newRollover(t, 0)
	if err := os.Rename(string(stranger.old.Certificate), string(stranger.next.Announce)); err != nil {
		t.Fatal(err)
	}
	if all, err := ca.ReadAnnounced(stranger.next, nil); err != nil || len(all) != 1 {
		t.Errorf("a root: %d, %v", len(all), err)
	}
	leaf := sign(t, current, stranger.dir)
	stranger.next.Announce = config.Path(leaf)
	if _, err := ca.ReadAnnounced(stranger.next, nil); err == nil || !strings.Contains(err.Error(), "none of an authority") {
		t.Errorf("a leaf: %v", err)
	}
	if all, err := ca.ReadAnnounced(ca.Config{}, nil); err != nil || all != nil {
		t.Errorf("nothing: %v, %v", all, err)
	}
}
