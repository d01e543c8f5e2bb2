// Package meshca turns a folder into the authority of the mesh: the certificates by which
// the services know each other.
//
// cmd/signer calls it when an installation is made and when a service is added or renewed;
// nothing calls it while services run. It has nothing to do with the authority that issues
// to clients.
package meshca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/ca"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// Names of the authority's files in its folder. A service's are NAME.crt and NAME.key.
const (
	CertificateFile = "ca.crt"
	KeyFile         = "ca.key"
)

// Default lengths of validity.
const (
	DefaultValidity     = 3650 * 24 * time.Hour
	DefaultLeafValidity = 825 * 24 * time.Hour
)

// Options say where the mesh authority lies and how long certificates are valid.
type Options struct {
	// Dir is the folder, made where it is missing.
	Dir string
	// Validity of the authority; 0 takes DefaultValidity.
	Validity time.Duration
	// LeafValidity of a service's certificate; 0 takes DefaultLeafValidity. It never
	// outlives the authority.
	LeafValidity time.Duration
	// Now is the time of making.
	Now time.Time
}

// authority is a mesh authority in memory.
type authority struct {
	certificate *x509.Certificate
	private     *key.File
}

// Init makes the authority and a certificate and key for each name, a DNS name of the mesh.
// It writes all files or none and overwrites nothing: the error is fs.ErrExist where one is
// in the way.
func Init(ctx context.Context, o Options, names []string) error {
	a, err := o.newAuthority(ctx)
	if err != nil {
		return err
	}
	files, err := pair(filepath.Join(o.Dir, "ca"), a.certificate.Raw, a.private)
	if err != nil {
		return err
	}
	for _, name := range names {
		made, err := o.leaf(ctx, a, name)
		if err != nil {
			return err
		}
		files = append(files, made...)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("making folder: %w", err)
	}
	return newfile.Write(files...)
}

// Setup makes what is missing: the authority, and for each name, in a folder of that name, its
// certificate and key beside the authority's certificate. It returns the names for which it did.
// A missing authority is not made where certificates of it are there: they would not belong to it.
// Its key may be kept elsewhere as long as nothing has to be made.
func Setup(ctx context.Context, o Options, names []string) (made []string, err error) {
	if o.complete(names) {
		return nil, nil
	}
	missing, err := newfile.Missing(filepath.Join(o.Dir, KeyFile), filepath.Join(o.Dir, CertificateFile))
	if err != nil {
		return nil, err
	}
	if missing {
		for _, name := range names {
			if _, err := newfile.Missing(filepath.Join(o.Dir, KeyFile), filepath.Join(o.Dir, name, CertificateFile)); err != nil {
				return nil, err
			}
		}
		if err := Init(ctx, o, nil); err != nil {
			return nil, err
		}
	}
	a, err := o.open()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		own := o
		own.Dir = filepath.Join(o.Dir, name)
		missing, err := newfile.Missing(own.files(name)...)
		if err != nil {
			return made, err
		}
		if !missing {
			continue
		}
		files, err := own.leaf(ctx, a, name)
		if err != nil {
			return made, err
		}
		if err := os.MkdirAll(own.Dir, 0o700); err != nil {
			return made, fmt.Errorf("making folder: %w", err)
		}
		files = append(files, newfile.File{
			Path: filepath.Join(own.Dir, CertificateFile), Mode: newfile.Open,
			Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}),
		})
		if err := newfile.Write(files...); err != nil {
			return made, err
		}
		made = append(made, name)
	}
	return made, nil
}

// files are what a service has in its folder.
func (o Options) files(name string) []string {
	return []string{filepath.Join(o.Dir, name+".key"), filepath.Join(o.Dir, name+".crt"), filepath.Join(o.Dir, CertificateFile)}
}

// complete tells whether the authority's certificate and everything of the names is there.
func (o Options) complete(names []string) bool {
	wanted := []string{filepath.Join(o.Dir, CertificateFile)}
	for _, name := range names {
		own := o
		own.Dir = filepath.Join(o.Dir, name)
		wanted = append(wanted, own.files(name)...)
	}
	return !slices.ContainsFunc(wanted, func(path string) bool {
		_, err := os.Lstat(path)
		return err != nil
	})
}

// Issue makes a certificate and a new key for one name under the authority that Init made.
// It replaces those that are there: a running service takes up the new pair by itself, and
// keeps the old one as long as certificate and key on the disk do not match.
func Issue(ctx context.Context, o Options, name string) error {
	a, err := o.open()
	if err != nil {
		return err
	}
	files, err := o.leaf(ctx, a, name)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := newfile.Replace(f); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) newAuthority(ctx context.Context) (authority, error) {
	private, err := key.Generate(key.P256)
	if err != nil {
		return authority{}, err
	}
	template, err := o.template("Estuary mesh authority", private, o.Now.Add(orDefault(o.Validity, DefaultValidity)))
	if err != nil {
		return authority{}, err
	}
	template.KeyUsage = x509.KeyUsageCertSign
	template.IsCA, template.MaxPathLenZero = true, true
	certificate, err := sign(ctx, template, authority{certificate: template, private: private}, private)
	return authority{certificate, private}, err
}

// leaf makes the files of one service.
func (o Options) leaf(ctx context.Context, a authority, name string) ([]newfile.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	private, err := key.Generate(key.P256)
	if err != nil {
		return nil, err
	}
	end := o.Now.Add(orDefault(o.LeafValidity, DefaultLeafValidity))
	if end.After(a.certificate.NotAfter) {
		end = a.certificate.NotAfter
	}
	template, err := o.template(name, private, end)
	if err != nil {
		return nil, err
	}
	template.DNSNames = []string{name}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	certificate, err := sign(ctx, template, a, private)
	if err != nil {
		return nil, err
	}
	return pair(filepath.Join(o.Dir, name), certificate.Raw, private)
}

func (o Options) template(name string, private *key.File, end time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return nil, fmt.Errorf("drawing serial number: %w", err)
	}
	id, err := ca.KeyID(private.Public())
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial.SetBit(serial, 158, 1), Subject: pkix.Name{CommonName: name},
		// An hour back: the clocks of new machines differ.
		NotBefore: o.Now.UTC().Truncate(time.Second).Add(-time.Hour), NotAfter: end.UTC().Truncate(time.Second),
		BasicConstraintsValid: true, SubjectKeyId: id,
	}, nil
}

func sign(ctx context.Context, template *x509.Certificate, a authority, holder *key.File) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, holder.Public(), key.ForX509(ctx, a.private))
	if err != nil {
		return nil, fmt.Errorf("signing certificate of %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// open reads the authority that Init made.
func (o Options) open() (authority, error) {
	private, err := key.OpenFile(filepath.Join(o.Dir, KeyFile), secret.Bytes{})
	if err != nil {
		return authority{}, err
	}
	path := filepath.Join(o.Dir, CertificateFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return authority{}, fmt.Errorf("opening mesh authority: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return authority{}, fmt.Errorf("mesh authority %s: not a PEM file", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return authority{}, fmt.Errorf("mesh authority %s: %w", path, err)
	}
	if !o.Now.Before(certificate.NotAfter) {
		return authority{}, fmt.Errorf("mesh authority %s: expired on %s", path, certificate.NotAfter.Format(time.RFC3339))
	}
	return authority{certificate, private}, nil
}
