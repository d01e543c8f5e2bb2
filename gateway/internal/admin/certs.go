package admin

import (
	"context"
	"encoding/pem"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
)

// serialDigits is the length of a serial number in the ledger: 20 octets, the most that RFC
// 5280 section 4.1.2.2 allows, in hexadecimal.
const serialDigits = 40

// certificate is an entry of the ledger.
type certificate struct {
	Serial    string    `json:"serial"`
	State     string    `json:"state"`  // intent, issued or failed
	Status    string    `json:"status"` // valid, expired, held or revoked; the state where nothing was issued
	Label     string    `json:"label"`
	Realm     string    `json:"realm"`
	Principal string    `json:"principal"`
	Subject   string    `json:"subject"`
	CreatedAt time.Time `json:"created_at"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// RevokedAt and Reason say since when and why it is revoked; absent where it is not.
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Reason    string     `json:"revocation_reason,omitempty"`
	// Predecessor is the serial number of the certificate that it renews; absent in a first one.
	Predecessor string `json:"predecessor,omitempty"`
	// AlsoRevoked are the serial numbers of certificates that renewed it and were revoked with it,
	// at that moment alone.
	AlsoRevoked []string `json:"also_revoked,omitempty"`
	// PEM is the certificate (RFC 7468); only of a single issued one.
	PEM string `json:"certificate,omitempty"`
}

// certificateList is the answer of GET /admin/certs.
type certificateList struct {
	Certificates []certificate `json:"certificates"`
	Next         string        `json:"next,omitempty"`
}

// listCertificates answers GET /admin/certs: a page of the ledger, oldest first.
func (s *Server) listCertificates(ctx context.Context, c *call) (int, any, error) {
	q, err := parseQuery(c.http.URL, "limit", "page", "status", "subject", "client_id", "expires_before")
	if err != nil {
		return 0, nil, err
	}
	ask, err := filterOf(q)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.ledger.ListCertificates(ctx, ask)
	if err != nil {
		return 0, nil, err
	}
	list := certificateList{Certificates: []certificate{}, Next: page.GetNextPageToken()}
	for _, e := range page.GetEntries() {
		list.Certificates = append(list.Certificates, s.certificateOf(e))
	}
	return http.StatusOK, list, nil
}

// getCertificate answers GET /admin/certs/{serial}; the serial number is hexadecimal, in any
// case and without regard to zeros in front.
func (s *Server) getCertificate(ctx context.Context, c *call) (int, any, error) {
	if _, err := parseQuery(c.http.URL); err != nil {
		return 0, nil, err
	}
	serial, err := c.serial()
	if err != nil {
		return 0, nil, err
	}
	found, err := s.ledger.GetCertificate(ctx, &signerv1.GetCertificateRequest{Serial: serial})
	if err != nil {
		return 0, nil, err
	}
	answer := s.certificateOf(found.GetEntry())
	if der := found.GetCertificateDer(); len(der) > 0 {
		answer.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return http.StatusOK, answer, nil
}

// serial returns the serial number in the path as the ledger writes it.
func (c *call) serial() (string, error) {
	serial := strings.ToLower(c.id)
	if len(serial) > serialDigits || strings.Trim(serial, "0123456789abcdef") != "" {
		return "", &problem{status: http.StatusNotFound, detail: "There is no certificate with this serial number."}
	}
	serial = strings.Repeat("0", serialDigits-len(serial)) + serial
	c.about["serial"] = serial
	return serial, nil
}

// statuses are the words of the query, and of the answers beside held.
var statuses = map[string]signerv1.CertificateStatus{
	"valid":   signerv1.CertificateStatus_CERTIFICATE_STATUS_VALID,
	"expired": signerv1.CertificateStatus_CERTIFICATE_STATUS_EXPIRED,
	"revoked": signerv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED,
}

// filterOf turns a query into the request to the signer.
func filterOf(q query) (*signerv1.ListCertificatesRequest, error) {
	ask := &signerv1.ListCertificatesRequest{
		PageSize: q.limit, PageToken: q.page, Subject: q.values.Get("subject"), Principal: q.clientID,
	}
	if word := q.values.Get("status"); word != "" {
		status, known := statuses[word]
		if !known {
			return nil, badRequest("The status has to be valid, expired or revoked.")
		}
		ask.Status = status
	}
	if text := q.values.Get("expires_before"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, badRequest("expires_before is not a time of RFC 3339, such as 2030-01-31T00:00:00Z.")
		}
		ask.ExpiresBefore = timestamppb.New(at)
	}
	return ask, nil
}

// reasons are the names of RFC 5280 section 5.3.1.
var reasons = map[string]signerv1.RevocationReason{
	"unspecified":          signerv1.RevocationReason_REVOCATION_REASON_UNSPECIFIED,
	"keyCompromise":        signerv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE,
	"affiliationChanged":   signerv1.RevocationReason_REVOCATION_REASON_AFFILIATION_CHANGED,
	"superseded":           signerv1.RevocationReason_REVOCATION_REASON_SUPERSEDED,
	"cessationOfOperation": signerv1.RevocationReason_REVOCATION_REASON_CESSATION_OF_OPERATION,
	"certificateHold":      signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD,
	"removeFromCRL":        signerv1.RevocationReason_REVOCATION_REASON_REMOVE_FROM_CRL,
	"privilegeWithdrawn":   signerv1.RevocationReason_REVOCATION_REASON_PRIVILEGE_WITHDRAWN,
}

func nameOf(reason signerv1.RevocationReason) string {
	for name, r := range reasons {
		if r == reason {
			return name
		}
	}
	return reason.String()
}

// revokeCertificate answers POST /admin/certs/{serial}/revoke: it ends a certificate, holds
// it, or ends a hold.
func (s *Server) revokeCertificate(ctx context.Context, c *call) (int, any, error) {
	if _, err := parseQuery(c.http.URL); err != nil {
		return 0, nil, err
	}
	serial, err := c.serial()
	if err != nil {
		return 0, nil, err
	}
	var word string
	if err := decode(c.http, map[string]any{"reason": &word}); err != nil {
		return 0, nil, err
	}
	reason, known := reasons[word]
	if !known {
		return 0, nil, badRequest("The field \"reason\" has to be one of: %s.", strings.Join(slices.Sorted(maps.Keys(reasons)), ", "))
	}
	c.about["reason"] = word
	if err := c.intend(); err != nil {
		return 0, nil, err
	}
	done, err := s.ledger.RevokeCertificate(ctx, &signerv1.RevokeCertificateRequest{Serial: serial, Reason: reason, RevokedBy: c.actor.name})
	if err != nil {
		return 0, nil, err
	}
	answer := s.certificateOf(done.GetEntry())
	answer.AlsoRevoked = done.GetAlsoRevoked()
	return http.StatusOK, answer, nil
}

// statusOf says what has become of an entry.
func (s *Server) statusOf(e *signerv1.Entry) string {
	switch {
	case e.GetRevokedAt() != nil && e.GetRevocationReason() == signerv1.RevocationReason_REVOCATION_REASON_CERTIFICATE_HOLD:
		return "held"
	case e.GetRevokedAt() != nil:
		return "revoked"
	case e.GetState() != signerv1.EntryState_ENTRY_STATE_ISSUED:
		return stateName(e.GetState().String(), "ENTRY_STATE_")
	case !e.GetNotAfter().AsTime().After(s.now()):
		return "expired"
	}
	return "valid"
}

func (s *Server) certificateOf(e *signerv1.Entry) certificate {
	c := certificate{
		Serial:    e.GetSerial(),
		State:     stateName(e.GetState().String(), "ENTRY_STATE_"),
		Status:    s.statusOf(e),
		Label:     e.GetLabel(),
		Realm:     e.GetRealm(),
		Principal: e.GetPrincipal(),
		Subject:   e.GetSubject(),
		CreatedAt: e.GetCreatedAt().AsTime(),
		NotBefore: e.GetNotBefore().AsTime(),
		NotAfter:  e.GetNotAfter().AsTime(),

		Predecessor: e.GetPredecessor(),
	}
	if at := e.GetRevokedAt(); at != nil {
		revoked := at.AsTime()
		c.RevokedAt, c.Reason = &revoked, nameOf(e.GetRevocationReason())
	}
	return c
}

// stateName returns the name of an enumeration's value without its prefix, in lower case.
func stateName(value, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value, prefix))
}
