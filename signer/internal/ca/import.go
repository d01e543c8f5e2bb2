package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
)

// Import takes the certificate that another authority issued for the key of an earlier
// Request, with the certificates above it up to the root, in one PEM file and any order. It
// checks what Load will check, then writes the certificate and the chain to where files
// says; both or neither, and it overwrites nothing.
func Import(files Config, path string, now time.Time) (*Authority, error) {
	private, err := openKey(files)
	if err != nil {
		return nil, err
	}
	bundle, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	chain, err := order(bundle, private.Public())
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	a, err := New(files.Name, chain, private, now)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	made := []newfile.File{{Path: string(files.Certificate), Data: encode(chain[:1]), Mode: newfile.Open}}
	switch {
	case len(chain) > 1 && files.Chain == "":
		return nil, fmt.Errorf("certificate %s: %d certificates stand above the authority's, and [ca] chain names no file for them", path, len(chain)-1)
	case len(chain) == 1 && files.Chain != "":
		return nil, fmt.Errorf("certificate %s: it is a root: leave [ca] chain empty", path)
	case len(chain) > 1:
		made = append(made, newfile.File{Path: string(files.Chain), Data: encode(chain[1:]), Mode: newfile.Open})
	}
	return a, newfile.Write(made...)
}

// order finds the certificate for pub in a bundle and puts each one's issuer behind it.
func order(bundle []*x509.Certificate, pub crypto.PublicKey) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for i, c := range bundle {
		if k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(pub) {
			chain = append(chain, c)
			bundle = slices.Delete(slices.Clone(bundle), i, i+1)
			break
		}
	}
	if chain == nil {
		return nil, errors.New("none of its certificates is for the authority's key")
	}
	for last := chain[0]; !bytes.Equal(last.RawIssuer, last.RawSubject); last = chain[len(chain)-1] {
		i := issuerOf(last, bundle)
		if i < 0 {
			return nil, fmt.Errorf("the issuer %q of %q is missing", last.Issuer, last.Subject)
		}
		chain = append(chain, bundle[i])
		bundle = slices.Delete(bundle, i, i+1)
	}
	if len(bundle) > 0 {
		return nil, fmt.Errorf("%q does not belong to the chain", bundle[0].Subject)
	}
	return chain, nil
}

// issuerOf returns the index of the certificate that signed c, or -1.
func issuerOf(c *x509.Certificate, bundle []*x509.Certificate) int {
	for i, issuer := range bundle {
		if bytes.Equal(c.RawIssuer, issuer.RawSubject) && c.CheckSignatureFrom(issuer) == nil {
			return i
		}
	}
	return -1
}

func encode(certificates []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}
