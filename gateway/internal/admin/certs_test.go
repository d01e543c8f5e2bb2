package admin_test

import (
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/fault"
)

var (
	serial = "00" + strings.Repeat("0a", 19)
	entry  = &signerv1.Entry{
		Serial: serial, State: signerv1.EntryState_ENTRY_STATE_ISSUED, Label: "devices", Realm: "LAB.TEST",
		Principal: "printer-7", Subject: "CN=printer-7", Predecessor: "0b", CreatedAt: timestamppb.New(noon),
		NotBefore: timestamppb.New(noon.Add(-time.Minute)), NotAfter: timestamppb.New(noon.Add(time.Hour)),
	}
	entryJSON = map[string]any{
		"serial": serial, "state": "issued", "status": "valid", "label": "devices", "realm": "LAB.TEST", "principal": "printer-7", "predecessor": "0b",
		"subject": "CN=printer-7", "created_at": "2030-01-31T12:00:00Z",
		"not_before": "2030-01-31T11:59:00Z", "not_after": "2030-01-31T13:00:00Z",
	}
)

func TestListCertificates(t *testing.T) {
	r := start(t, nil)
	r.certs = func(ask *signerv1.ListCertificatesRequest) (*signerv1.ListCertificatesResponse, error) {
		if diff := cmp.Diff(&signerv1.ListCertificatesRequest{
			PageSize: 200, PageToken: "x", Status: signerv1.CertificateStatus_CERTIFICATE_STATUS_VALID, Subject: "printer", Principal: "printer-7",
			ExpiresBefore: timestamppb.New(noon.Add(24 * time.Hour)),
		}, ask, protocmp.Transform()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		return &signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{entry}, NextPageToken: "y"}, nil
	}
	a := r.ask(t, "GET", "/admin/certs?limit=200&page=x&status=valid&subject=printer&client_id=printer-7&expires_before=2030-02-01T12:00:00Z", r.full, "")
	if diff := cmp.Diff(map[string]any{"certificates": []any{entryJSON}, "next": "y"}, a.object(t)); diff != "" || a.status != 200 {
		t.Errorf("%d (-want +got):\n%s", a.status, diff)
	}
	if records := r.audit.take(); len(records) != 1 || records[0].Event != "certificate.listed" {
		t.Errorf("audit: %+v", records)
	}
}

func TestGetCertificate(t *testing.T) {
	r := start(t, nil)
	der := []byte("not looked into")
	r.cert = func(ask *signerv1.GetCertificateRequest) (*signerv1.GetCertificateResponse, error) {
		if ask.GetSerial() != serial {
			return nil, fault.New(fault.NotFound, "ledger.Get", "There is no such certificate.", nil)
		}
		return &signerv1.GetCertificateResponse{Entry: entry, CertificateDer: der}, nil
	}
	for _, written := range []string{serial, strings.ToUpper(serial), strings.TrimLeft(serial, "0")} {
		a := r.ask(t, "GET", "/admin/certs/"+written, r.full, "")
		if a.status != 200 {
			t.Fatalf("%s: %d %s", written, a.status, a.body)
		}
		got := a.object(t)
		block, rest := pem.Decode([]byte(got["certificate"].(string)))
		if block == nil || block.Type != "CERTIFICATE" || string(block.Bytes) != string(der) || len(rest) != 0 {
			t.Errorf("certificate %v", got["certificate"])
		}
		delete(got, "certificate")
		if diff := cmp.Diff(entryJSON, got); diff != "" {
			t.Errorf("entry (-want +got):\n%s", diff)
		}
	}
	r.audit.take()
	if a := r.ask(t, "GET", "/admin/certs/1", r.full, ""); a.status != 404 {
		t.Errorf("unknown: %d %s", a.status, a.body)
	}
	records := r.audit.take()
	if len(records) != 1 || records[0].Event != "certificate.read" || records[0].Outcome != audit.Refused ||
		records[0].Detail["serial"] != strings.Repeat("0", 39)+"1" {
		t.Errorf("audit: %+v", records)
	}
}

// TestRevokeCertificate: every reason by its name, who asked, and what became of it; nothing is
// asked of the signer that is wrong by itself.
func TestRevokeCertificate(t *testing.T) {
	r := start(t, nil)
	var asked []*signerv1.RevokeCertificateRequest
	r.end = func(ask *signerv1.RevokeCertificateRequest) (*signerv1.RevokeCertificateResponse, error) {
		asked = append(asked, proto.CloneOf(ask))
		if ask.GetReason() == signerv1.RevocationReason_REVOCATION_REASON_REMOVE_FROM_CRL {
			return nil, fault.New(fault.Conflict, "ledger.Revoke", "the certificate is not on hold", nil)
		}
		gone := proto.CloneOf(entry)
		gone.RevokedAt, gone.RevocationReason = timestamppb.New(noon), ask.GetReason()
		return &signerv1.RevokeCertificateResponse{Entry: gone}, nil
	}
	for word, want := range map[string]struct {
		number int32
		status string
	}{
		"unspecified": {0, "revoked"}, "keyCompromise": {1, "revoked"}, "affiliationChanged": {3, "revoked"}, "superseded": {4, "revoked"},
		"cessationOfOperation": {5, "revoked"}, "certificateHold": {6, "held"}, "privilegeWithdrawn": {9, "revoked"},
	} {
		asked = nil
		a := r.ask(t, "POST", "/admin/certs/"+strings.TrimLeft(serial, "0")+"/revoke", r.full, `{"reason": "`+word+`"}`)
		got := a.object(t)
		if a.status != 200 || got["status"] != want.status || got["revocation_reason"] != word || got["revoked_at"] != "2030-01-31T12:00:00Z" {
			t.Errorf("%s: %d %v", word, a.status, got)
		}
		if len(asked) != 1 || int32(asked[0].GetReason()) != want.number || asked[0].GetSerial() != serial || asked[0].GetRevokedBy() != "full" {
			t.Errorf("%s: asked %v", word, asked)
		}
		records := r.audit.take()
		if len(records) != 2 || records[1].Event != "certificate.revoked" || records[1].Detail["serial"] != serial || records[1].Detail["reason"] != word {
			t.Errorf("%s: audit %+v", word, records)
		}
	}
	asked = nil
	if a := r.ask(t, "POST", "/admin/certs/1/revoke", r.full, `{"reason": "removeFromCRL"}`); a.status != 409 || len(asked) != 1 {
		t.Errorf("not on hold: %d %s", a.status, a.body)
	}
	asked = nil
	for body, status := range map[string]int{`{"reason": "cACompromise"}`: 400, `{"reason": "aACompromise"}`: 400, `{"reason": ""}`: 400, `{}`: 400, `{"reason": 1}`: 400, ``: 400} {
		if a := r.ask(t, "POST", "/admin/certs/1/revoke", r.full, body); a.status != status {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := r.ask(t, "POST", "/admin/certs/1/revoke", r.reader, `{"reason": "superseded"}`); a.status != 403 {
		t.Errorf("without the scope: %d", a.status)
	}
	if len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}
