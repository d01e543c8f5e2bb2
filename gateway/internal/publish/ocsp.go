package publish

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/crypto/ocsp"
	"google.golang.org/grpc"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/certid"
	"github.com/estuary-pki/estuary/services/fault"
)

const (
	// askAgain is the age from which on a response is not handed out while the signer answers:
	// with what HTTP caches may add, a revocation is seen within a minute.
	askAgain = 15 * time.Second
	// maxKept bounds the responses that are kept, of about a kilobyte each.
	maxKept = 10000
	// asking bounds the questions that are with the signer at once: anybody may ask.
	asking = 64
	// askTime is for how long.
	askTime = 5 * time.Second
	// maxSerial is the longest serial number, in octets (RFC 5280 section 4.1.2.2).
	maxSerial = 20
)

// StatusSigner is what responses come from; signerv1.AuthorityClient is one.
type StatusSigner interface {
	// GetOCSP returns a signed response, or a *fault.Error: NotFound for a certificate that the
	// authority has not issued.
	GetOCSP(context.Context, *signerv1.GetOCSPRequest, ...grpc.CallOption) (*signerv1.GetOCSPResponse, error)
}

// ResponsesConfig is what Responses are made of. All are required.
type ResponsesConfig struct {
	Signer    StatusSigner
	Authority Authority
	// Log gets a line when asking the signer begins to fail, and for a response that is none.
	Log *slog.Logger
	// Metrics counts the answers by what they are.
	Metrics *metrics.Set
	// Now is the clock.
	Now func() time.Time
}

// Responses answers OCSP requests (RFC 6960) with responses that the signer signed: fresh ones
// while it answers, and those that are kept, until their time is over, while it does not. It is
// safe for concurrent use.
type Responses struct {
	c ResponsesConfig
	// turn holds an element for each question that is with the signer.
	turn chan struct{}

	mu     sync.Mutex // guards what follows
	kept   map[keptKey]status
	failed bool // whether the last question did
	// trusted is the certificate of the responder that was last found to be the issuer's: one
	// is good for days, and checking it is dearer than checking a response.
	trusted trusted
}

// trusted is a responder's certificate and that of the issuer, DER.
type trusted struct{ responder, issuer []byte }

// keptKey is what a response without a nonce depends on.
type keptKey struct {
	issuer string // its subject key identifier
	hash   crypto.Hash
	serial string
}

// status is a verified response.
type status struct {
	*ocsp.Response
	askedAt time.Time
	nonce   bool // it answers one client only
}

// NewResponses returns Responses that know nothing yet.
func NewResponses(c ResponsesConfig) (*Responses, error) {
	if c.Signer == nil || c.Authority == nil || c.Log == nil || c.Metrics == nil || c.Now == nil {
		return nil, errors.New("answering OCSP requests needs a signer, an authority, a log, metrics and a clock")
	}
	return &Responses{c: c, turn: make(chan struct{}, asking), kept: map[keptKey]status{}}, nil
}

// Answer returns the DER of an OCSPResponse for a request in DER. With an error response the
// status is the zero value.
func (r *Responses) Answer(ctx context.Context, request []byte) (der []byte, s status) {
	s, err := r.answer(ctx, request)
	what := "signed"
	switch {
	case err == nil:
		der = s.Raw
	case errors.Is(err, fault.NotFound):
		// RFC 5019 section 2.2.3: a responder that has no word on a certificate says so.
		der, what = ocsp.UnauthorizedErrorResponse, "unauthorized"
	case errors.Is(err, fault.Malformed):
		der, what = ocsp.MalformedRequestErrorResponse, "malformed_request"
	case errors.Is(err, fault.Internal):
		der, what = ocsp.InternalErrorErrorResponse, "internal_error"
	default:
		der, what = ocsp.TryLaterErrorResponse, "try_later"
	}
	r.c.Metrics.GetOrCreateCounter(`estuary_gateway_ocsp_responses_total{response="` + what + `"}`).Inc()
	return der, s
}

func (r *Responses) answer(ctx context.Context, request []byte) (status, error) {
	q, err := parseQuestion(request)
	if err != nil {
		return status{}, fault.New(fault.Malformed, "publish.Answer", err.Error(), nil)
	}
	issuers, err := r.c.Authority.Issuers(ctx)
	if err != nil {
		return status{}, err
	}
	var issuer *x509.Certificate
	for _, one := range issuers {
		if q.names(one.Certificate) {
			issuer = one.Certificate
			break
		}
	}
	if issuer == nil {
		return status{}, fault.New(fault.NotFound, "publish.Answer", "the certificate is not one of this authority", nil)
	}
	key := keptKey{issuer: string(issuer.SubjectKeyId), hash: q.hash, serial: string(q.serial.Bytes())}
	have, there := r.find(key)
	if there && len(q.nonce) == 0 && r.c.Now().Sub(have.askedAt) < askAgain {
		return have, nil
	}
	s, err := r.ask(ctx, issuer, q)
	r.note(ctx, err)
	switch {
	case err == nil && !s.nonce:
		r.keep(key, s)
	case err != nil && there && !decided(err):
		// Also where the client sent a nonce: a response without one is more than none.
		return have, nil
	}
	return s, err
}

// decided tells whether an error says something of the certificate.
func decided(err error) bool {
	return errors.Is(err, fault.NotFound) || errors.Is(err, fault.Malformed) || errors.Is(err, fault.Internal)
}

// names tells whether a question is about a certificate that the issuer can have issued.
func (q question) names(issuer *x509.Certificate) bool {
	if q.hash == 0 || q.serial.Sign() <= 0 || len(q.serial.Bytes()) > maxSerial {
		return false
	}
	name, key, err := certid.Of(issuer, q.hash)
	return err == nil && bytes.Equal(name, q.nameHash) && bytes.Equal(key, q.keyHash)
}

// ask has the signer sign a response, and verifies it as a client would.
func (r *Responses) ask(ctx context.Context, issuer *x509.Certificate, q question) (status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return status{}, fault.New(fault.Busy, "publish.Answer", "", ctx.Err())
	}
	hash := signerv1.OCSPHash_OCSP_HASH_SHA1
	if q.hash == crypto.SHA256 {
		hash = signerv1.OCSPHash_OCSP_HASH_SHA256
	}
	asked := r.c.Now()
	got, err := r.c.Signer.GetOCSP(ctx, &signerv1.GetOCSPRequest{Serial: q.serial.Bytes(), Hash: hash, Nonce: q.nonce, Authority: issuer.SubjectKeyId})
	if err != nil {
		return status{}, err
	}
	s, err := ocsp.ParseResponse(got.GetResponseDer(), nil) // by the certificate within
	if err == nil {
		err = check(s, q, asked)
	}
	if err == nil {
		err = r.delegated(s.Certificate, issuer)
	}
	if err != nil {
		return status{}, fault.New(fault.Unavailable, "publish.Answer", "", fmt.Errorf("verifying the signer's OCSP response: %w", err))
	}
	return status{Response: s, askedAt: asked, nonce: len(q.nonce) > 0}, nil
}

// check tells what is wrong with a response whose signatures are good.
func check(s *ocsp.Response, q question, now time.Time) error {
	c := s.Certificate
	switch {
	case s.SerialNumber.Cmp(q.serial) != 0 || s.IssuerHash != q.hash:
		return errors.New("it is about another certificate")
	case c == nil || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("its signer is no OCSP responder (RFC 6960 section 4.2.2.2)")
	case now.After(c.NotAfter) || now.Add(skew).Before(c.NotBefore) || s.ThisUpdate.After(now.Add(skew)) || !s.NextUpdate.After(now):
		return fmt.Errorf("it is not of this time: %s to %s", s.ThisUpdate, s.NextUpdate)
	}
	return nil
}

// delegated tells what is wrong with the signature of a responder's certificate.
func (r *Responses) delegated(c, issuer *x509.Certificate) error {
	now := trusted{responder: c.Raw, issuer: issuer.Raw}
	r.mu.Lock()
	known := r.trusted
	r.mu.Unlock()
	if bytes.Equal(known.responder, now.responder) && bytes.Equal(known.issuer, now.issuer) {
		return nil
	}
	if err := c.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("its responder's certificate is not the authority's: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trusted = now
	return nil
}

// find returns a kept response whose time is not over.
func (r *Responses) find(key keptKey) (status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, there := r.kept[key]
	if there && !r.c.Now().Before(s.NextUpdate) {
		delete(r.kept, key)
		return status{}, false
	}
	return s, there
}

// keep keeps a response. Where there is no room one goes, whichever it is: who fills the map
// with certificates of ours does not choose it.
func (r *Responses) keep(key keptKey, s status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, there := r.kept[key]; there && have.ThisUpdate.After(s.ThisUpdate) {
		return
	}
	for other := range r.kept {
		if len(r.kept) < maxKept {
			break
		}
		delete(r.kept, other)
	}
	r.kept[key] = s
}

// note logs when asking the signer begins to fail, and when it works again.
func (r *Responses) note(ctx context.Context, err error) {
	failed := err != nil && !errors.Is(err, fault.NotFound) && !errors.Is(err, fault.Malformed)
	r.mu.Lock()
	changed := failed != r.failed
	r.failed = failed
	r.mu.Unlock()
	switch {
	case changed && failed:
		r.c.Log.LogAttrs(ctx, slog.LevelWarn, "asking for an OCSP response", slog.Any("err", err))
	case changed:
		r.c.Log.LogAttrs(ctx, slog.LevelInfo, "the signer signs OCSP responses again")
	}
}
