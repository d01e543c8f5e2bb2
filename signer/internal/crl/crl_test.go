package crl_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/crl"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC)

func authority(t *testing.T, typ key.Type) (*ca.Authority, string) {
	t.Helper()
	dir := t.TempDir()
	files := ca.Config{Name: "ca", Certificate: config.Path(filepath.Join(dir, "ca.crt")), Key: config.Path(filepath.Join(dir, "ca.key"))}
	if _, err := ca.Init(t.Context(), ca.Options{Files: files, KeyType: typ, Subject: "CN=Test CA", Now: now}); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(t.Context(), files, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a, string(files.Certificate)
}

func list(entries ...crl.Entry) crl.List {
	return crl.List{Number: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(24 * time.Hour), Entries: entries}
}

func TestBuild(t *testing.T) {
	for _, typ := range key.Types() {
		t.Run(string(typ), func(t *testing.T) {
			a, file := authority(t, typ)
			one := crl.Entry{Serial: big.NewInt(0x1234), RevokedAt: now, Reason: 1}
			two := crl.Entry{Serial: big.NewInt(0x99), RevokedAt: now}
			der, err := crl.Build(t.Context(), a, list(one, two))
			if err != nil {
				t.Fatal(err)
			}
			made, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			entries := made.RevokedCertificateEntries
			if len(entries) != 2 || entries[0].SerialNumber.Int64() != 0x99 || entries[1].ReasonCode != 1 || made.Number.Int64() != 7 {
				t.Errorf("entries %v, number %v", entries, made.Number)
			}
			if !bytes.Equal(made.AuthorityKeyId, a.Certificate.SubjectKeyId) || !made.ThisUpdate.Equal(now.Truncate(time.Second)) {
				t.Errorf("authority key %x, from %v", made.AuthorityKeyId, made.ThisUpdate)
			}
			other, err := crl.Build(t.Context(), a, list(two, one))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := x509.ParseRevocationList(other); err != nil || !bytes.Equal(again.RawTBSRevocationList, made.RawTBSRevocationList) {
				t.Errorf("another order of rows gave another list: %v", err)
			}
			path := filepath.Join(t.TempDir(), "ca.crl")
			if err := os.WriteFile(path, der, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("openssl", "crl", "-inform", "DER", "-in", path, "-noout", "-text", "-CAfile", file).CombinedOutput()
			for _, want := range []string{"verify OK", "Serial Number: 1234", "Key Compromise", "X509v3 CRL Number"} {
				if err != nil || !strings.Contains(string(out), want) {
					t.Errorf("%v: %q is not in\n%s", err, want, out)
				}
			}
		})
	}
}

func TestEmptyList(t *testing.T) {
	a, _ := authority(t, key.P256)
	der, err := crl.Build(t.Context(), a, list())
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseRevocationList(der)
	if err != nil || len(made.RevokedCertificateEntries) != 0 {
		t.Errorf("%v, %v", made, err)
	}
}

func TestRefusals(t *testing.T) {
	a, _ := authority(t, key.P256)
	serial := big.NewInt(1)
	for want, l := range map[string]crl.List{
		"number":      {ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
		"20 octets":   {Number: new(big.Int).Lsh(serial, 160), ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
		"nextUpdate":  {Number: serial, ThisUpdate: now, NextUpdate: now},
		"positive":    list(crl.Entry{Serial: big.NewInt(0)}),
		"is not pos":  list(crl.Entry{}),
		"twice":       list(crl.Entry{Serial: serial}, crl.Entry{Serial: serial}),
		"not defined": list(crl.Entry{Serial: serial, Reason: 7}),
	} {
		if _, err := crl.Build(t.Context(), a, l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := crl.Build(ctx, a, list()); !errors.Is(err, context.Canceled) {
		t.Errorf("signed under an ended context: %v", err)
	}
}

// TestIssuingDistributionPoint: critical, with the URL, and without one not there.
func TestIssuingDistributionPoint(t *testing.T) {
	a, _ := authority(t, key.P256)
	l := crl.List{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	for _, urls := range [][]string{nil, {"http://crl.test/crl/ca.crl"}} {
		l.DistributionPoints = urls
		der, err := crl.Build(t.Context(), a, l)
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, e := range list.Extensions {
			if e.Id.String() == "2.5.29.28" && e.Critical {
				found = hex.EncodeToString(e.Value)
			}
		}
		want := ""
		if urls != nil {
			want = "3020a01ea01c861a" + hex.EncodeToString([]byte(urls[0]))
		}
		if found != want {
			t.Errorf("%v: extension %s, not %s", urls, found, want)
		}
	}
}
