package meshca_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/signer/internal/meshca"
)

const (
	signer  = "signer.estuary.internal"
	gateway = "gateway.estuary.internal"
)

func read(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestInitAndIssue(t *testing.T) {
	o := meshca.Options{Dir: filepath.Join(t.TempDir(), "mesh"), Now: time.Now()}
	if err := meshca.Init(t.Context(), o, []string{signer, gateway}); err != nil {
		t.Fatal(err)
	}
	root := read(t, o.Dir, "ca")
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, name := range []string{signer, gateway} {
		c := read(t, o.Dir, name)
		if !cmp.Equal(c.DNSNames, []string{name}) || c.IsCA || c.NotAfter.After(root.NotAfter) {
			t.Errorf("%s: names %v, authority %v", name, c.DNSNames, c.IsCA)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := c.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if info, err := os.Stat(filepath.Join(o.Dir, name+".key")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		out, err := exec.Command("openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", filepath.Join(o.Dir, "ca.crt"), filepath.Join(o.Dir, name+".crt")).CombinedOutput()
		if err != nil {
			t.Errorf("openssl: %s", out)
		}
	}
	if err := meshca.Init(t.Context(), o, []string{signer}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwriting: %v", err)
	}
	before := read(t, o.Dir, signer)
	for _, name := range []string{signer, "admin.estuary.internal"} {
		if err := meshca.Issue(t.Context(), o, name); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, o.Dir, name).Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Error(err)
		}
	}
	if read(t, o.Dir, signer).Equal(before) {
		t.Error("renewing changed nothing")
	}
}

func TestLengthsOfValidity(t *testing.T) {
	o := meshca.Options{Dir: t.TempDir(), Validity: 10 * time.Hour, LeafValidity: 3 * time.Hour, Now: time.Now()}
	if err := meshca.Init(t.Context(), o, []string{signer}); err != nil {
		t.Fatal(err)
	}
	end := func(name string) time.Duration {
		return read(t, o.Dir, name).NotAfter.Sub(o.Now).Round(time.Hour)
	}
	if end("ca") != 10*time.Hour || end(signer) != 3*time.Hour {
		t.Errorf("authority %v, service %v", end("ca"), end(signer))
	}
	o.LeafValidity = 0
	if err := meshca.Issue(t.Context(), o, signer); err != nil || end(signer) != 10*time.Hour {
		t.Errorf("not bounded by the authority: %v, %v", end(signer), err)
	}
	o.Now = o.Now.Add(11 * time.Hour)
	if err := meshca.Issue(t.Context(), o, signer); err == nil {
		t.Error("an authority at its end issued")
	}
}

func TestRefusedNames(t *testing.T) {
	for _, name := range []string{"", "signer", "Signer.estuary.internal", "*.estuary.internal", "a..b", "../x.y", "a_b.c", "-a.b", "a.b.", "ca"} {
		dir := filepath.Join(t.TempDir(), "mesh")
		if err := meshca.Init(t.Context(), meshca.Options{Dir: dir, Now: time.Now()}, []string{signer, name}); err == nil {
			t.Errorf("%q was taken", name)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: something was written", name)
		}
	}
	if err := meshca.Issue(t.Context(), meshca.Options{Dir: t.TempDir(), Now: time.Now()}, signer); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("issuing without an authority: %v", err)
	}
}
