package publish_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/crypto/ocsp"
	"google.golang.org/grpc"

	"github.com/estuary-pki/estuary/gateway/internal/publish"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
)

// oracle is a signer of OCSP responses; its callers change what it says.
type oracle struct {
	*signer
	responder *x509.Certificate
	key       *ecdsa.PrivateKey

	mu    sync.Mutex // guards what follows
	asked []*signerv1.GetOCSPRequest
	err   error
	edit  func(*ocsp.Response) // of the next responses
	other []byte               // in place of a response
}

func newOracle(t testing.TB, edit func(*x509.Certificate)) *oracle {
	t.Helper()
	o := &oracle{signer: newSigner(t)}
	var err error
	if o.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "CA OCSP"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.cert, o.key.Public(), o.signer.key)
	if err == nil {
		o.responder, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *oracle) set(err error, edit func(*ocsp.Response)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err, o.edit = err, edit
}

func (o *oracle) calls() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

func (o *oracle) GetOCSP(_ context.Context, r *signerv1.GetOCSPRequest, _ ...grpc.CallOption) (*signerv1.GetOCSPResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, r)
	if o.err != nil {
		return nil, o.err
	}
	if o.other != nil {
		return &signerv1.GetOCSPResponse{ResponseDer: o.other}, nil
	}
	template := ocsp.Response{
		SerialNumber: new(big.Int).SetBytes(r.GetSerial()), IssuerHash: crypto.SHA1, Certificate: o.responder,
		ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
	}
	if r.GetHash() == signerv1.OCSPHash_OCSP_HASH_SHA256 {
		template.IssuerHash = crypto.SHA256
	}
	if o.edit != nil {
		o.edit(&template)
	}
	der, err := ocsp.CreateResponse(o.cert, o.responder, template, o.key)
	return &signerv1.GetOCSPResponse{ResponseDer: der}, err
}

func newResponses(t testing.TB, o *oracle) *publish.Responses {
	t.Helper()
	r, err := publish.NewResponses(publish.ResponsesConfig{
		Signer: o, Authority: o, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// question returns a request for the certificate of o with that serial number.
func (o *oracle) question(t testing.TB, serial int64, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: big.NewInt(serial)}, o.cert, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// withExtensions returns the request with requestExtensions, of which value is the DER of an
// OCTET STRING with a nonce.
func withExtensions(request []byte, critical bool, oid string, value []byte) []byte {
	wrap := func(tag byte, parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		switch {
		case len(content) > 127 && len(content) < 256:
			return append([]byte{tag, 0x81, byte(len(content))}, content...)
		case len(content) > 255:
			return append([]byte{tag, 0x82, byte(len(content) >> 8), byte(len(content))}, content...)
		}
		return append([]byte{tag, byte(len(content))}, content...)
	}
	var flag []byte
	if critical {
		flag = []byte{1, 1, 0xff}
	}
	extension := wrap(0x30, wrap(0x06, []byte(oid)), flag, wrap(0x04, value))
	return wrap(0x30, wrap(0x30, request[4:], wrap(0xa2, wrap(0x30, extension)))) // behind two short headers
}

const nonceOID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02"

func status(t *testing.T, der []byte, o *oracle) string {
	t.Helper()
	r, err := ocsp.ParseResponse(der, o.cert)
	if refusal := (ocsp.ResponseError{}); errors.As(err, &refusal) {
		return refusal.Status.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked"}[r.Status]
}

// TestAnswers: what is fresh is kept for a moment, a revocation is seen behind it, and while
// the signer is away what is kept goes on until its time is over.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOracle(t, nil)
		r := newResponses(t, o)
		plain := o.question(t, 77, crypto.SHA1)
		fresh := withExtensions(plain, false, nonceOID, append([]byte{4, 16}, make([]byte, 16)...))
		expect := func(step string, request []byte, want string, calls int) {
			t.Helper()
			before := o.calls()
			der, _ := r.Answer(t.Context(), request)
			if got := status(t, der, o); got != want || o.calls()-before != calls {
				t.Errorf("%s: %s by %d calls, not %s by %d", step, got, o.calls()-before, want, calls)
			}
		}
		expect("first", plain, "good", 1)
		expect("again", plain, "good", 0)
		expect("by another hash", o.question(t, 77, crypto.SHA256), "good", 1)
		expect("with a nonce", fresh, "good", 1)
		expect("with a nonce again", fresh, "good", 1)
		if n := o.asked[len(o.asked)-1].GetNonce(); len(n) != 16 {
			t.Errorf("the nonce %x was passed on", n)
		}
		o.set(nil, func(v *ocsp.Response) { v.Status, v.RevokedAt = ocsp.Revoked, time.Now() })
		time.Sleep(16 * time.Second)
		expect("revoked", plain, "revoked", 1)
		o.set(fault.New(fault.Unavailable, "test", "", nil), nil)
		expect("within the moment, without signer", plain, "revoked", 0)
		time.Sleep(30 * time.Minute)
		expect("without signer", plain, "revoked", 1)
		expect("without signer, with a nonce", fresh, "revoked", 1)
		expect("without signer, never asked before", o.question(t, 78, crypto.SHA1), "try later", 1)
		time.Sleep(30 * time.Minute)
		expect("behind its end", plain, "try later", 1)
		o.set(nil, nil)
		expect("the signer is back", plain, "good", 1)
		time.Sleep(16 * time.Second)
		for want, kind := range map[string]fault.Kind{"unauthorized": fault.NotFound, "internal error": fault.Internal} {
			o.set(fault.New(kind, "test", "", nil), nil)
			expect(want+" is said although something is kept", plain, want, 1)
		}
	})
}

// TestHostileSigner: what does not verify, or is about something else, is handed out to nobody.
func TestHostileSigner(t *testing.T) {
	good := newOracle(t, nil)
	for name, edit := range map[string]func(*ocsp.Response){
		"another serial number": func(v *ocsp.Response) { v.SerialNumber = big.NewInt(78) },
		"another hash":          func(v *ocsp.Response) { v.IssuerHash = crypto.SHA256 },
		"a past":                func(v *ocsp.Response) { v.NextUpdate = time.Now().Add(-time.Minute) },
		"a time to come":        func(v *ocsp.Response) { v.ThisUpdate = time.Now().Add(time.Hour) },
	} {
		good.set(nil, edit)
		der, _ := newResponses(t, good).Answer(t.Context(), good.question(t, 77, crypto.SHA1))
		if got := status(t, der, good); got != "try later" {
			t.Errorf("%s: %s", name, got)
		}
	}
	other := newOracle(t, nil)
	foreign, err := other.GetOCSP(t.Context(), &signerv1.GetOCSPRequest{Serial: []byte{77}, Hash: signerv1.OCSPHash_OCSP_HASH_SHA1})
	if err != nil {
		t.Fatal(err)
	}
	good.set(nil, nil)
	known := newResponses(t, good) // and by one that trusts a responder already
	if der, _ := known.Answer(t.Context(), good.question(t, 76, crypto.SHA1)); status(t, der, good) != "good" {
		t.Fatal("the right responder is refused")
	}
	for name, der := range map[string][]byte{
		"another authority's": foreign.GetResponseDer(), "nothing": {}, "junk": []byte("junk"), "an error": ocsp.UnauthorizedErrorResponse,
	} {
		good.other = der
		for _, r := range []*publish.Responses{newResponses(t, good), known} {
			answer, _ := r.Answer(t.Context(), good.question(t, 77, crypto.SHA1))
			if got := status(t, answer, good); got != "try later" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	for name, edit := range map[string]func(*x509.Certificate){
		"a certificate for something else": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"an expired one":                   func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
	} {
		o := newOracle(t, edit)
		answer, _ := newResponses(t, o).Answer(t.Context(), o.question(t, 77, crypto.SHA1))
		if got := status(t, answer, o); got != "try later" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestQuestions(t *testing.T) {
	o, other := newOracle(t, nil), newOracle(t, nil)
	r := newResponses(t, o)
	plain := o.question(t, 77, crypto.SHA1)
	nonce := func(n int) []byte {
		head := []byte{4, byte(n)}
		if n > 127 {
			head = []byte{4, 0x81, byte(n)}
		}
		return append(head, make([]byte, n)...)
	}
	for name, c := range map[string]struct {
		request []byte
		want    string
	}{
		"plain":                      {plain, "good"},
		"the longest nonce":          {withExtensions(plain, false, nonceOID, nonce(128)), "good"},
		"a critical nonce":           {withExtensions(plain, true, nonceOID, nonce(8)), "good"},
		"an unknown extension":       {withExtensions(plain, false, "\x2a\x03", nonce(8)), "good"},
		"an unknown one, critical":   {withExtensions(plain, true, "\x2a\x03", nonce(8)), "malformed"},
		"a nonce too long":           {withExtensions(plain, false, nonceOID, nonce(129)), "malformed"},
		"an empty nonce":             {withExtensions(plain, false, nonceOID, nonce(0)), "malformed"},
		"a nonce that is none":       {withExtensions(plain, false, nonceOID, []byte("12345678")), "malformed"},
		"nothing":                    {nil, "malformed"},
		"junk":                       {[]byte("junk"), "malformed"},
		"something behind":           {append(bytes.Clone(plain), 0), "malformed"},
		"another authority's":        {other.question(t, 77, crypto.SHA1), "unauthorized"},
		"by SHA-512":                 {o.question(t, 77, crypto.SHA512), "unauthorized"},
		"a negative serial number":   {o.question(t, -77, crypto.SHA1), "unauthorized"},
		"a serial number of nothing": {o.question(t, 0, crypto.SHA1), "unauthorized"},
	} {
		der, _ := r.Answer(t.Context(), c.request)
		if got := status(t, der, o); got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
	before := o.calls()
	for n := range plain {
		der, _ := r.Answer(t.Context(), plain[:n])
		if got := status(t, der, o); got != "malformed" {
			t.Errorf("the first %d octets: %s", n, got)
		}
	}
	if n := o.calls() - before; n != 0 {
		t.Errorf("%d of what cannot be read went to the signer", n)
	}
}

func TestOCSPByHTTP(t *testing.T) {
	o := newOracle(t, nil)
	server, err := publish.NewServer(publish.ServerConfig{
		Lists: newLists(t, o.signer), Responses: newResponses(t, o), Authority: o, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	plain := o.question(t, 0x7b7b3e3f3f, crypto.SHA1)
	fresh := withExtensions(plain, false, nonceOID, append([]byte{4, 16}, make([]byte, 16)...))
	path := "/ocsp/" + base64.StdEncoding.EncodeToString(plain)
	const request = "application/ocsp-request"
	for name, c := range map[string]struct {
		method, path, kind string
		body               []byte
		code               int
		want, cache        string
	}{
		"GET":                 {"GET", path, "", nil, 200, "good", "public, max-age=30"},
		"GET, escaped":        {"GET", "/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(plain)), "", nil, 200, "good", "public, max-age=30"},
		"GET without padding": {"GET", strings.TrimRight(path, "="), "", nil, 200, "good", "public, max-age=30"},
		"GET with a nonce":    {"GET", "/ocsp/" + base64.StdEncoding.EncodeToString(fresh), "", nil, 200, "good", "no-store"},
		"GET of junk":         {"GET", "/ocsp/!!", "", nil, 200, "malformed", "no-store"},
		"GET of nothing":      {"GET", "/ocsp", "", nil, 405, "", ""},
		"POST":                {"POST", "/ocsp", request, plain, 200, "good", "no-store"},
		"POST with a slash":   {"POST", "/ocsp/", request + "; charset=x", plain, 200, "good", "no-store"},
		"POST of junk":        {"POST", "/ocsp", request, []byte("junk"), 200, "malformed", "no-store"},
		"POST of a form":      {"POST", "/ocsp", "application/x-www-form-urlencoded", plain, 415, "", ""},
		"POST of much":        {"POST", "/ocsp", request, make([]byte, 9<<10), 413, "", ""},
		"POST behind":         {"POST", path, request, plain, 405, "", ""},
		"PUT":                 {"PUT", "/ocsp", request, plain, 405, "", ""},
		"beside":              {"GET", "/ocspx", "", nil, 404, "", ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, bytes.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("%s: %d, not %d", name, w.Code, c.code)
		}
		if c.code != http.StatusOK {
			continue
		}
		if h := w.Header(); status(t, w.Body.Bytes(), o) != c.want || h.Get("Content-Type") != "application/ocsp-response" || h.Get("Cache-Control") != c.cache ||
			(h.Get("ETag") != "") != (c.cache != "no-store") {
			t.Errorf("%s: %s, %v", name, status(t, w.Body.Bytes(), o), h)
		}
	}
}

// BenchmarkAnswer: what is kept, beside what the signer signs anew; its part is in the latter.
func BenchmarkAnswer(b *testing.B) {
	o := newOracle(b, nil)
	r := newResponses(b, o)
	plain := o.question(b, 77, crypto.SHA1)
	for name, request := range map[string][]byte{
		"kept": plain, "anew": withExtensions(plain, false, nonceOID, append([]byte{4, 16}, make([]byte, 16)...)),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r.Answer(b.Context(), request)
			}
		})
	}
}

// FuzzQuestion: what is answered, another implementation reads alike.
func FuzzQuestion(f *testing.F) {
	o := newOracle(f, nil)
	r := newResponses(f, o)
	plain := o.question(f, 77, crypto.SHA1)
	f.Add(plain)
	f.Add(withExtensions(plain, false, nonceOID, append([]byte{4, 16}, make([]byte, 16)...)))
	f.Fuzz(func(t *testing.T, der []byte) {
		before := o.calls()
		answer, _ := r.Answer(t.Context(), der)
		if len(answer) == 0 {
			t.Fatal("no answer")
		}
		if o.calls() == before {
			return
		}
		asked := o.asked[len(o.asked)-1]
		o.asked = o.asked[:0]
		want, err := ocsp.ParseRequest(der)
		if err != nil || want.SerialNumber.Cmp(new(big.Int).SetBytes(asked.GetSerial())) != 0 {
			t.Errorf("asked for %x: %+v, %v", asked.GetSerial(), want, err)
		}
	})
}
