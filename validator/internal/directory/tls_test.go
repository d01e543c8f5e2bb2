package directory_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// authority is a certificate authority for the servers of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns a certificate for the host, and the files of it and its key.
func (a *authority) issue(t *testing.T, host string, end time.Time) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}

// secured puts TLS before a scripted server and returns the address; starting it by StartTLS
// when that is asked for.
func secured(t *testing.T, behind *scripted, config *tls.Config, starts bool) string {
	t.Helper()
	return troubled(t, "tcp", func(c net.Conn) {
		if starts {
			if _, err := io.ReadFull(c, make([]byte, 31)); err != nil {
				return
			}
			if _, err := io.WriteString(c, started); err != nil {
				return
			}
		}
		front := tls.Server(c, config)
		back, err := net.Dial("unix", behind.listener.Addr().String())
		if err != nil {
			_ = c.Close()
			return
		}
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = io.Copy(back, front)
			_ = back.Close()
		})
		_, _ = io.Copy(front, back)
		_ = front.Close()
		all.Wait()
	})
}

func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	good, _, _ := ca.issue(t, "127.0.0.1", later)
	name, _, _ := ca.issue(t, "ldap.ipa.test", later)
	old, _, _ := ca.issue(t, "127.0.0.1", time.Now().Add(-time.Minute))
	foreign, _, _ := stranger.issue(t, "127.0.0.1", later)
	cases := []struct {
		name    string
		pair    tls.Certificate
		version uint16 // the highest of the server
		key     string // in the error; empty for success, "down" for an error that names none
	}{
		{"good", good, tls.VersionTLS13, ""},
		{"TLS 1.2", good, tls.VersionTLS12, ""},
		{"TLS 1.1", good, tls.VersionTLS11, "down"},
		{"other name", name, tls.VersionTLS13, "[directory] ca"},
		{"expired", old, tls.VersionTLS13, "[directory] ca"},
		{"other authority", foreign, tls.VersionTLS13, "[directory] ca"},
	}
	for _, c := range cases {
		for scheme, starts := range map[string]bool{"ldaps://": false, "ldap://": true} {
			t.Run(scheme+c.name, func(t *testing.T) {
				s := listen(t, "")
				s.search = people(person("alice", nil))
				at := secured(t, s, &tls.Config{Certificates: []tls.Certificate{c.pair}, MinVersion: tls.VersionTLS10, MaxVersion: c.version}, starts)
				config, log := settings(scheme + at)
				config.CA = ca.file
				d := client(t, config)
				err := d.Open(t.Context())
				var bad *directory.SettingError
				if errors.As(err, &bad) != strings.HasPrefix(c.key, "[") || c.key == "down" && !strings.Contains(log.String(), "starting without") ||
					bad != nil && !strings.Contains(err.Error(), c.key) {
					t.Errorf("opening: %v", err)
				}
				b, err := d.Bind(t.Context(), user, hidden("x"), directory.BindOptions{})
				if (err == nil && b.Accepted) != (c.key == "") || len(s.tried()) != 0 && c.key != "" {
					t.Errorf("binding: %+v, %v, %q", b, err, s.tried())
				}
				if c.key == "" && b.Server != "127.0.0.1" {
					t.Errorf("at %q", b.Server)
				}
			})
		}
	}
}

// A changed file is used for the next connection; a bad one is not.
func TestAuthorityIsReadAgain(t *testing.T) {
	ca, next := newAuthority(t), newAuthority(t)
	pair, _, _ := next.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	s := listen(t, "")
	at := secured(t, s, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, false)
	config, _ := settings("ldaps://" + at)
	config.CA = ca.file
	d := client(t, config)
	if err := d.Open(t.Context()); err == nil {
		t.Fatal("an unknown authority is trusted")
	}
	fresh, err := os.ReadFile(next.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{fresh, []byte("nothing")} {
		if err := os.WriteFile(ca.file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Open(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A client certificate and no service account: SASL EXTERNAL.
func TestExternal(t *testing.T) {
	ca := newAuthority(t)
	pair, _, _ := ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	_, certFile, keyFile := ca.issue(t, "validator.ipa.test", time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	s := listen(t, "")
	s.search = people(person("alice", nil))
	who := "dn:" + account
	s.who = func(string) (string, answer) { return who, answer{} }
	at := secured(t, s, &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, false)
	config, _ := settings("ldaps://" + at)
	config.CA, config.Certificate, config.Key = ca.file, certFile, keyFile
	config.BindDN, config.Password = "", hidden("")
	d := client(t, config)
	if err := d.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	who = ""
	if err := client(t, config).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "[directory] bind_dn") || !strings.Contains(err.Error(), "anonymous") {
		t.Errorf("bound as nobody: %v", err)
	}
}
