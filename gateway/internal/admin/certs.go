package admin

import (
	"context"
	"encoding/pem"
	"net/http"
	"strings"
	"time"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
)

// serialDigits is the length of a serial number in the ledger: 20 octets, the most that RFC
// 5280 section 4.1.2.2 allows, in hexadecimal.
const serialDigits = 40

// certificate is an entry of the ledger.
type certificate struct {
	Serial    string    `json:"serial"`
	State     string    `json:"state"` // intent, issued or failed
	Label     string    `json:"label"`
	Realm     string    `json:"realm"`
	Principal string    `json:"principal"`
	Subject   string    `json:"subject"`
	CreatedAt time.Time `json:"created_at"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
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
	q, err := parseQuery(c.http.URL, "limit", "page")
	if err != nil {
		return 0, nil, err
	}
	page, err := s.ledger.ListCertificates(ctx, &signerv1.ListCertificatesRequest{PageSize: q.limit, PageToken: q.page})
	if err != nil {
		return 0, nil, err
	}
	list := certificateList{Certificates: []certificate{}, Next: page.GetNextPageToken()}
	for _, e := range page.GetEntries() {
		list.Certificates = append(list.Certificates, certificateOf(e))
	}
	return http.StatusOK, list, nil
}

// getCertificate answers GET /admin/certs/{serial}; the serial number is hexadecimal, in any
// case and without regard to zeros in front.
func (s *Server) getCertificate(ctx context.Context, c *call) (int, any, error) {
	if _, err := parseQuery(c.http.URL); err != nil {
		return 0, nil, err
	}
	serial := strings.ToLower(c.id)
	if len(serial) > serialDigits || strings.Trim(serial, "0123456789abcdef") != "" {
		return 0, nil, &problem{status: http.StatusNotFound, detail: "There is no certificate with this serial number."}
	}
	serial = strings.Repeat("0", serialDigits-len(serial)) + serial
	c.about["serial"] = serial
	found, err := s.ledger.GetCertificate(ctx, &signerv1.GetCertificateRequest{Serial: serial})
	if err != nil {
		return 0, nil, err
	}
	answer := certificateOf(found.GetEntry())
	if der := found.GetCertificateDer(); len(der) > 0 {
		answer.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return http.StatusOK, answer, nil
}

func certificateOf(e *signerv1.Entry) certificate {
	return certificate{
		Serial:    e.GetSerial(),
		State:     stateName(e.GetState().String(), "ENTRY_STATE_"),
		Label:     e.GetLabel(),
		Realm:     e.GetRealm(),
		Principal: e.GetPrincipal(),
		Subject:   e.GetSubject(),
		CreatedAt: e.GetCreatedAt().AsTime(),
		NotBefore: e.GetNotBefore().AsTime(),
		NotAfter:  e.GetNotAfter().AsTime(),
	}
}

// stateName returns the name of an enumeration's value without its prefix, in lower case.
func stateName(value, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value, prefix))
}
