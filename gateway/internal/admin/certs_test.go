package admin_test

import (
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
		Principal: "printer-7", Subject: "CN=printer-7", CreatedAt: timestamppb.New(noon),
		NotBefore: timestamppb.New(noon.Add(-time.Minute)), NotAfter: timestamppb.New(noon.Add(time.Hour)),
	}
	entryJSON = map[string]any{
		"serial": serial, "state": "issued", "label": "devices", "realm": "LAB.TEST", "principal": "printer-7",
		"subject": "CN=printer-7", "created_at": "2030-01-31T12:00:00Z",
		"not_before": "2030-01-31T11:59:00Z", "not_after": "2030-01-31T13:00:00Z",
	}
)

func TestListCertificates(t *testing.T) {
	r := start(t, nil)
	r.certs = func(ask *signerv1.ListCertificatesRequest) (*signerv1.ListCertificatesResponse, error) {
		if diff := cmp.Diff(&signerv1.ListCertificatesRequest{PageSize: 200, PageToken: "x"}, ask, protocmp.Transform()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		return &signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{entry}, NextPageToken: "y"}, nil
	}
	a := r.ask(t, "GET", "/admin/certs?limit=200&page=x", r.full, "")
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
