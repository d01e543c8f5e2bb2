package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/signer/internal/dn"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// Options describe the authority to make.
type Options struct {
	// Files are where its certificate and key shall lie, as the signer's [ca] table says.
	// A passphrase file has to exist already.
	Files Config
	// KeyType is the kind of key.
	KeyType key.Type
	// Subject is its name (RFC 4514), such as "CN=Example CA,O=Example".
	Subject string
	// Validity of a root; 0 takes ten years.
	Validity time.Duration
	// PathLen is how many authorities may stand below it (RFC 5280 section 4.2.1.9); below 0
	// for any number.
	PathLen int
	// Now is the time of making.
	Now time.Time
}

// tenYears is the validity of a root unless somebody asks for another.
const tenYears = 3650 * 24 * time.Hour

// Init makes a key and a self-signed root certificate. It writes both or nothing and
// overwrites nothing: the error is fs.ErrExist where a file is in the way.
func Init(ctx context.Context, o Options) (*x509.Certificate, error) {
	subject, private, err := o.prepare()
	if err != nil {
		return nil, err
	}
	if o.Files.Chain != "" {
		return nil, errors.New("a root has no chain above it: leave [ca] chain empty, or make a request for another authority")
	}
	template, err := o.root(subject, private)
	if err != nil {
		return nil, err
	}
	certificate, err := issueAuthority(ctx, template, template, private, private)
	if err != nil {
		return nil, err
	}
	if _, err := New(o.Files.Name, []*x509.Certificate{certificate}, private, o.Now); err != nil {
		return nil, fmt.Errorf("checking the new root: %w", err)
	}
	return certificate, o.write(private, newfile.File{
		Path: string(o.Files.Certificate), Mode: newfile.Open,
		Data: encode([]*x509.Certificate{certificate}),
	})
}

// Request makes a key and a PKCS#10 request (RFC 2986) for it, which goes to another
// authority and comes back through Import. It writes both or nothing and overwrites nothing.
func Request(ctx context.Context, o Options, path string) error {
	subject, private, err := o.prepare()
	if err != nil {
		return err
	}
	template := &x509.CertificateRequest{RawSubject: subject, SignatureAlgorithm: private.Algorithm()}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key.ForX509(ctx, private))
	if err != nil {
		return fmt.Errorf("signing request: %w", err)
	}
	return o.write(private, newfile.File{
		Path: path, Mode: newfile.Open,
		Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
	})
}

// prepare makes what a root and a request have in common.
func (o Options) prepare() (subject []byte, private *key.File, err error) {
	name, err := dn.Parse(o.Subject)
	if err == nil && len(name) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading subject %q: %w", o.Subject, err)
	}
	if subject, err = dn.Marshal(name); err != nil {
		return nil, nil, err
	}
	private, err = key.Generate(o.KeyType)
	return subject, private, err
}

func (o Options) root(subject []byte, private *key.File) (*x509.Certificate, error) {
	validity := o.Validity
	if validity == 0 {
		validity = tenYears
	}
	serial, _, err := NewSerial()
	if err != nil {
		return nil, err
	}
	id, err := KeyID(private.Public())
	if err != nil {
		return nil, err
	}
	start := o.Now.UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber: serial, RawSubject: subject, SignatureAlgorithm: private.Algorithm(),
		NotBefore: start, NotAfter: start.Add(validity - time.Second),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: max(o.PathLen, -1), MaxPathLenZero: o.PathLen == 0, SubjectKeyId: id,
	}, nil
}

// write writes the key and what was made with it, or nothing.
func (o Options) write(private *key.File, made ...newfile.File) error {
	passphrase, err := readPassphrase(o.Files)
	if err != nil {
		return err
	}
	defer passphrase.Wipe()
	text, err := private.PEM(passphrase)
	if err != nil {
		return err
	}
	defer text.Wipe()
	return newfile.Write(append([]newfile.File{{Path: string(o.Files.Key), Data: text.Reveal(), Mode: newfile.Secret}}, made...)...)
}
