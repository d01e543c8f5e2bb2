package systest_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/services/csr"
)

// floors is one process that does what the design demands of an enrolment and nothing else:
// no process border, no store, no audit, no profile, no lint.
type floors struct {
	ca             *x509.Certificate
	key, throwaway *ecdsa.PrivateKey
	sealing        assertion.SigningKey
	opener         *assertion.Opener
}

// startFloors serves both floors, with the certificate of the gateway, and returns their
// URLs: bare checks a request and signs a certificate; required makes every check and
// signature of the design.
func startFloors(b *testing.B, s *stack) (bare, required string) {
	b.Helper()
	f, err := newFloors()
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, issue := range map[string]func(*http.Request, []byte) ([]byte, error){"bare": f.bare, "required": f.required} {
		mux.HandleFunc("POST /"+path+"/simpleenroll", func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, csr.MaxBody))
			if err == nil {
				body, err = issue(r, body)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/pkcs7-mime")
			_, _ = w.Write(base64.StdEncoding.AppendEncode(nil, body)) // the client tells
		})
	}
	ln, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	server.Protocols.SetHTTP1(true)
	ended := make(chan error, 1)
	go func() { // ends with Close, below
		ended <- server.ServeTLS(ln, filepath.Join(s.state, "gateway/tls.crt"), filepath.Join(s.state, "gateway/tls.key"))
	}()
	b.Cleanup(func() {
		if err := server.Close(); err != nil {
			b.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	})
	url := "https://" + ln.Addr().String()
	return url + "/bare", url + "/required"
}

func newFloors() (*floors, error) {
	f := &floors{}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if f.sealing, err = assertion.NewSigningKey("v1", private); err != nil {
		return nil, err
	}
	if f.opener, err = assertion.NewOpener(assertion.OpenerConfig{Audience: "ca", Keys: []assertion.PublicKey{{
		ID: "v1", Issuer: "validator", Key: public, NotAfter: time.Now().Add(time.Hour),
		Methods: []assertionv1.Method{assertionv1.Method_METHOD_TOKEN}, Realms: []string{"DEVICES"},
	}}}); err != nil {
		return nil, err
	}
	for _, key := range []**ecdsa.PrivateKey{&f.key, &f.throwaway} {
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Floor CA"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, f.key.Public(), f.key)
	if err != nil {
		return nil, err
	}
	f.ca, err = x509.ParseCertificate(der)
	return f, err
}

// create makes a certificate. crypto/x509 verifies what it has signed.
func (f *floors) create(r *csr.Request, issuer *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, spki := make([]byte, 20), r.SPKISHA256()
	_, _ = rand.Read(serial) // never fails: it ends the process instead
	serial[0] = serial[0]&0x7f | 0x40
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: device}, SubjectKeyId: spki[:20],
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, issuer, r.PublicKey(), key)
}

func (f *floors) bare(_ *http.Request, body []byte) ([]byte, error) {
	der, err := csr.Decode(body)
	if err != nil {
		return nil, err
	}
	r, err := csr.Parse(der)
	if err != nil {
		return nil, err
	}
	return f.create(r, f.ca, f.key)
}

func (f *floors) required(h *http.Request, body []byte) ([]byte, error) {
	der, err := csr.Decode(body)
	if err != nil {
		return nil, err
	}
	var r *csr.Request
	for range 3 { // gateway, validator, signer
		if r, err = csr.Parse(der); err != nil {
			return nil, err
		}
	}
	user, password, _ := h.BasicAuth()
	for range 3 { // the token's index, its hash, its row
		mac := hmac.New(sha256.New, make([]byte, 32))
		mac.Write([]byte(password))
		if mac.Sum(nil) == nil || user != device {
			return nil, errors.New("refused")
		}
	}
	csrHash, spki := r.SHA256(), r.SPKISHA256()
	sealed, err := assertion.Seal(statement(csrHash, spki), f.sealing)
	if err != nil {
		return nil, err
	}
	if _, err := f.opener.Open(sealed, assertion.Expect{Gateway: "gateway", CSRSHA256: csrHash, SPKISHA256: spki}); err != nil {
		return nil, err
	}
	return f.sign(r)
}

// sign drafts under the throw-away key, signs what was drafted, reads and verifies it.
func (f *floors) sign(r *csr.Request) ([]byte, error) {
	issuer := *f.ca
	issuer.PublicKey = f.throwaway.Public()
	der, err := f.create(r, &issuer, f.throwaway)
	if err != nil {
		return nil, err
	}
	draft, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(draft.RawTBSCertificate)
	signature, err := ecdsa.SignASN1(rand.Reader, f.key, hash[:])
	if err != nil {
		return nil, err
	}
	der, err = asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: draft.RawTBSCertificate}, // ecdsa-with-SHA256 (RFC 5758 section 3.2)
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return der, c.CheckSignatureFrom(f.ca)
}

// statement is what the validator says of a device with a token.
func statement(csrHash, spki [32]byte) *assertionv1.Assertion {
	id, now := make([]byte, 16), time.Now()
	_, _ = rand.Read(id) // as above
	return &assertionv1.Assertion{
		Version: assertion.Version, AssertionId: id, Issuer: "validator", Audience: "ca", Gateway: "gateway",
		IssuedAt: timestamppb.New(now), NotAfter: timestamppb.New(now.Add(time.Minute)),
		Operation: assertionv1.Operation_OPERATION_ENROLL, Label: "device", CsrSha256: csrHash[:], SpkiSha256: spki[:],
		Identity: &assertionv1.Identity{Kind: assertionv1.IdentityKind_IDENTITY_KIND_DEVICE, Realm: "DEVICES", Principal: device},
		Authentication: &assertionv1.Authentication{
			Method: assertionv1.Method_METHOD_TOKEN, Indicators: []string{"token"}, VerifiedAt: timestamppb.New(now),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE, ClientAddress: "127.0.0.1", Backend: "token",
		},
		Token: &assertionv1.EnrolmentToken{Id: "token"},
		Spend: &assertionv1.Spend{Ids: [][]byte{[]byte("token:token")}, Limit: perRound, KeepUntil: timestamppb.New(now.Add(time.Hour))},
	}
}
