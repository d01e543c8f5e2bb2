package csr

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Parse checks a DER certification request (RFC 2986) in this order: size, structure, names,
// key, and only then the signature, whose cost the sender of the key would otherwise choose.
// Every refusal is a *fault.Error of the kind Malformed whose Public text names the rule and
// the part of the request that breaks it; ErrTooLarge is in its chain above MaxDER.
func Parse(der []byte) (*Request, error) {
	return ParseFor(der, func(KeyType, int) string { return "" })
}

// ParseFor is Parse with a word of the caller's between key and signature: refused says, for
// a sound key with its size in bits, what speaks against it, or "". The signature of a key
// that is refused is not verified, so that a label pays only for keys that it accepts.
func ParseFor(der []byte, refused func(t KeyType, bits int) string) (*Request, error) {
	if len(der) > MaxDER {
		return nil, malformed("csr.Parse", &refusal{
			public: refuse("the request has %d octets: at most %d are accepted", len(der), MaxDER).Error(),
			cause:  ErrTooLarge,
		})
	}
	p, err := parse(bytes.Clone(der), refused)
	if err != nil {
		return nil, malformed("csr.Parse", err)
	}
	return &Request{p: p}, nil
}

// parse does Parse's work on octets that nobody else changes.
func parse(der []byte, refused func(KeyType, int) string) (*parsed, error) {
	p := &parsed{der: der, sha256: sha256.Sum256(der)}
	outer, err := only(der, cbasn1.SEQUENCE, "the CertificationRequest")
	if err != nil {
		return nil, within("PKCS#10 (RFC 2986 section 4.2)", err)
	}
	if err := wellFormed(outer, 1); err != nil {
		return nil, within("DER", err)
	}
	info, err := child(&outer, cbasn1.SEQUENCE, "the CertificationRequestInfo")
	if err != nil {
		return nil, within("PKCS#10 (RFC 2986 section 4.2)", err)
	}
	var algorithm, signature cryptobyte.String
	if algorithm, err = child(&outer, cbasn1.SEQUENCE, "the signatureAlgorithm"); err == nil {
		if signature, err = child(&outer, cbasn1.BIT_STRING, "the signature"); err == nil {
			err = end(outer, "the signature")
		}
	}
	if err != nil {
		return nil, within("PKCS#10 (RFC 2986 section 4.2)", err)
	}
	if signature[0] != 0 {
		return nil, refuse("the signature is not a whole number of octets (RFC 2986 section 4.2)")
	}
	if err := p.readInfo(info); err != nil {
		return nil, err
	}
	if err := checkAlgorithm(algorithm, p.keyType); err != nil {
		return nil, err
	}
	if why := refused(p.keyType, p.bits); why != "" {
		return nil, refuse("%s", why)
	}
	return p, p.verify()
}

// readInfo reads a CertificationRequestInfo (RFC 2986 section 4.1).
func (p *parsed) readInfo(info cryptobyte.String) error {
	const where = "PKCS#10 (RFC 2986 section 4.1)"
	version, err := child(&info, cbasn1.INTEGER, "the version")
	if err != nil {
		return within(where, err)
	}
	if len(version) != 1 || version[0] != 0 {
		return refuse("the version is not 0 (RFC 2986 section 4.1)")
	}
	subject, err := element(&info, cbasn1.SEQUENCE, "the subject")
	if err != nil {
		return within(where, err)
	}
	spki, err := element(&info, cbasn1.SEQUENCE, "the subjectPublicKeyInfo")
	if err != nil {
		return within(where, err)
	}
	attrs, err := child(&info, cbasn1.Tag(0).ContextSpecific().Constructed(), "the set of attributes")
	if err != nil {
		return within(where, err)
	}
	if err := end(info, "the attributes"); err != nil {
		return within(where, err)
	}
	p.rawSubject, p.spki, p.spkiSHA256 = subject, spki, sha256.Sum256(spki)
	if p.subject, err = readDN(subject); err != nil {
		return within("subject", err)
	}
	if p.attributes, err = readAttributes(attrs); err != nil {
		return err
	}
	p.keyType, p.bits, err = checkKey(spki)
	return err
}

// verify has crypto/x509 read the request a second time, which must find nothing amiss, and
// check the signature: proof that the sender has the private key.
func (p *parsed) verify() error {
	again, err := x509.ParseCertificateRequest(p.der)
	if err != nil {
		return &refusal{public: "the request cannot be read as PKCS#10 (RFC 2986)", cause: err}
	}
	if again.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		return refuse("RSASSA-PSS parameters: SHA-256, SHA-384 or SHA-512, MGF1 with the same hash and " +
			"a salt as long as the hash are accepted (RFC 4055 section 3.1)")
	}
	if err := again.CheckSignature(); err != nil {
		return &refusal{public: "the signature does not fit request and key (RFC 2986 section 4.2)", cause: err}
	}
	p.key = again.PublicKey
	return nil
}
