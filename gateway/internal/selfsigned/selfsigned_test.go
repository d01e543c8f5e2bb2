package selfsigned_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/gateway/internal/selfsigned"
)

// TestMake: a pair that TLS takes, good for the hosts; made once.
func TestMake(t *testing.T) {
	certificate, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	if made, err := selfsigned.Make(certificate, key, nil, time.Now()); made || err == nil {
		t.Errorf("for no host: %v, %v", made, err)
	}
	made, err := selfsigned.Make(certificate, key, []string{"est.example.test", "127.0.0.1"}, time.Now())
	if err != nil || !made {
		t.Fatalf("%v, %v", made, err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	for host, good := range map[string]bool{"est.example.test": true, "127.0.0.1": true, "example.test": false} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
	if pair.Leaf.IsCA || pair.Leaf.NotAfter.Before(time.Now().Add(selfsigned.Life-time.Hour)) {
		t.Errorf("it is an authority, or ends at %v", pair.Leaf.NotAfter)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
	if made, err := selfsigned.Make(certificate, key, []string{"other.test"}, time.Now()); made || err != nil {
		t.Errorf("a second time: %v, %v", made, err)
	}
}
