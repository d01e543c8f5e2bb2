package issue

import (
	"crypto/x509"

	"github.com/estuary-pki/estuary/services/csr"
)

// SubjectPublicKeyInfo is a hole through which the tests look.
var SubjectPublicKeyInfo = subjectPublicKeyInfo

// Draft builds and judges the certificate of a template that no profile would make.
func (i *Issuer) Draft(template *x509.Certificate, r *csr.Request) error {
	_, err := i.draft(template, r)
	return err
}
