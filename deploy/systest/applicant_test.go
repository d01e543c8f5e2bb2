package systest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// applicant is who enrols: a name, a token for it, and a key.
type applicant struct {
	name, token string
	key         *ecdsa.PrivateKey
}

// applicant returns one with a name of its own, whose token is good for so many certificates.
func (c *cluster) applicant(ctx context.Context, uses int) (applicant, error) {
	a := applicant{name: fmt.Sprintf("device-%d", c.made.Add(1))}
	var err error
	if a.token, err = c.token(ctx, a.name, uses); err != nil {
		return applicant{}, err
	}
	return a.withKey()
}

// applicants returns several, each with a token for one certificate.
func (c *cluster) applicants(count int) []applicant {
	c.t.Helper()
	all := make([]applicant, count)
	for i := range all {
		var err error
		if all[i], err = c.applicant(c.t.Context(), 1); err != nil {
			c.t.Fatal(err)
		}
	}
	return all
}

// withKey returns the same applicant with another key.
func (a applicant) withKey() (applicant, error) {
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return a, err
}

// token asks the admin for one.
func (c *cluster) token(ctx context.Context, name string, uses int) (string, error) {
	body := fmt.Sprintf(`{"client_id": %q, "max_uses": %d}`, name, uses)
	_, token, err := askToken(ctx, c.client, "https://"+c.addresses("admin")[0]+"/admin", c.bearer, body)
	return token, err
}

// answer is what came of a request: a status and, with 200, the certificate's DER, or an
// error of the connection.
type answer struct {
	status int
	der    []byte
	text   string
	after  time.Duration // of Retry-After
	err    error
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, error %v: %s", a.status, a.err, a.text)
}

// retriable tells whether a client may ask again: nobody refused it.
func (a answer) retriable() bool {
	return a.err != nil || a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests
}

// enrolment makes the request, signed anew.
func (a applicant) enrolment() (enrolment, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.name}}, a.key)
	return enrolment{body: base64.StdEncoding.AppendEncode(nil, csr), user: a.name, password: a.token}, err
}

// enrol sends one request, signed anew, and sees to it that a certificate is one for the key.
func (c *cluster) enrol(ctx context.Context, url string, a applicant) answer {
	e, err := a.enrolment()
	if err != nil {
		return answer{err: err}
	}
	resp, text, err := e.post(ctx, c.client, url)
	if resp == nil {
		return answer{err: err}
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 where there is none
		return answer{status: resp.StatusCode, text: string(text), after: time.Duration(seconds) * time.Second, err: err}
	}
	leaf, err := certificateOf(text)
	if err == nil && (!a.key.PublicKey.Equal(leaf.PublicKey) || leaf.Subject.CommonName != a.name) {
		err = fmt.Errorf("the certificate is for another key, or for %q", leaf.Subject.CommonName)
	}
	if err != nil {
		return answer{status: http.StatusTeapot, text: err.Error()} // nobody takes this for success, or asks again
	}
	return answer{status: resp.StatusCode, der: leaf.Raw}
}

// persist repeats the request, at the URLs in turn, until there is a certificate; tries is
// how often it asked. Only what may be repeated is.
func (c *cluster) persist(ctx context.Context, a applicant, urls ...string) (der []byte, tries int, err error) {
	deadline := time.Now().Add(40 * time.Second)
	for ; ; time.Sleep(50 * time.Millisecond) {
		got := c.enrol(ctx, urls[tries%len(urls)], a)
		tries++
		switch {
		case got.status == http.StatusOK && got.err == nil:
			return got.der, tries, nil
		case !got.retriable():
			return nil, tries, fmt.Errorf("%s, try %d: %v", a.name, tries, got)
		case time.Now().After(deadline):
			return nil, tries, fmt.Errorf("%s gave up after %d tries: %v", a.name, tries, got)
		}
	}
}

// certificateOf reads the one certificate of an answer: base64 of certs-only CMS (RFC 7030
// section 4.2.3).
func certificateOf(body []byte) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\n", ""))
	if err != nil {
		return nil, err
	}
	var info struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version      int
			Digests      asn1.RawValue
			Content      asn1.RawValue
			Certificates asn1.RawValue `asn1:"tag:0"`
			Signers      asn1.RawValue
		} `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("reading CMS: %w, %d octets behind it", err, len(rest))
	}
	return x509.ParseCertificate(info.Content.Certificates.Bytes)
}
