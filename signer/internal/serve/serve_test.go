package serve_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/mesh/meshtest"
)

func TestIssueOverTheMesh(t *testing.T) {
	l := newLab(t)
	client := signerv1.NewIssuerClient(l.gateway)
	r := l.ask("pump-1")
	first := must[*signerv1.IssueResponse](t)(client.Issue(t.Context(), r))
	again := must[*signerv1.IssueResponse](t)(client.Issue(t.Context(), r))
	if first.GetRepeated() || !again.GetRepeated() || !bytes.Equal(first.GetCertificateDer(), again.GetCertificateDer()) {
		t.Errorf("repeated %v, then %v", first.GetRepeated(), again.GetRepeated())
	}
	c := must[*x509.Certificate](t)(x509.ParseCertificate(first.GetCertificateDer()))
	if err := c.CheckSignatureFrom(l.ca.Certificate); err != nil {
		t.Error(err)
	}
	bad := l.ask("pump-2")
	bad.Assertion.Signature[0] ^= 1
	if _, err := client.Issue(t.Context(), bad); !errors.Is(err, fault.Internal) || fault.Public(err) != fault.Public(fault.Internal) {
		t.Errorf("a forged assertion answers %v", err)
	}
	if _, err := client.Issue(t.Context(), &signerv1.IssueRequest{}); !errors.Is(err, fault.Malformed) {
		t.Errorf("an empty request answers %v", err)
	}
	for name, call := range map[string]func() error{
		"Issue": func() error {
			_, err := signerv1.NewIssuerClient(l.admin).Issue(t.Context(), r)
			return err
		},
		"ListCertificates": func() error {
			_, err := signerv1.NewLedgerAdminClient(l.gateway).ListCertificates(t.Context(), &signerv1.ListCertificatesRequest{})
			return err
		},
	} {
		if err := call(); !meshtest.Refused(err) {
			t.Errorf("%s by the wrong peer answers %v", name, err)
		}
	}
}

func TestAuthority(t *testing.T) {
	l := newLab(t)
	client := signerv1.NewAuthorityClient(l.gateway)
	chain := must[*signerv1.GetChainResponse](t)(client.GetChain(t.Context(), &signerv1.GetChainRequest{}))
	if chain.GetName() != "ca" || len(chain.GetCertificates()) != 1 || !bytes.Equal(chain.GetCertificates()[0], l.ca.Certificate.Raw) {
		t.Errorf("the chain of %q has %d certificates", chain.GetName(), len(chain.GetCertificates()))
	}
	profiles := must[*signerv1.ListProfilesResponse](t)(client.ListProfiles(t.Context(), &signerv1.ListProfilesRequest{}))
	if p := profiles.GetProfiles(); len(p) != 1 || p[0].GetLabel() != "device" || len(p[0].GetKeyTypes()) == 0 {
		t.Errorf("profiles are %v", p)
	}
}

func TestLedgerAdmin(t *testing.T) {
	l := newLab(t)
	issuer, admin := signerv1.NewIssuerClient(l.gateway), signerv1.NewLedgerAdminClient(l.admin)
	for i := range 3 {
		must[*signerv1.IssueResponse](t)(issuer.Issue(t.Context(), l.ask(fmt.Sprint("pump-", i))))
	}
	var entries []*signerv1.Entry
	for token, pages := "", 0; ; pages++ {
		page := must[*signerv1.ListCertificatesResponse](t)(admin.ListCertificates(t.Context(), &signerv1.ListCertificatesRequest{PageSize: 2, PageToken: token}))
		entries = append(entries, page.GetEntries()...)
		if token = page.GetNextPageToken(); token == "" {
			if pages != 1 {
				t.Errorf("%d pages before the last, not 1", pages)
			}
			break
		}
	}
	if len(entries) != 3 || entries[2].GetPrincipal() != "pump-2" || entries[2].GetSubject() != "CN=pump-2" || entries[2].GetRealm() != "DEVICES" {
		t.Fatalf("listed %v", entries)
	}
	one := must[*signerv1.GetCertificateResponse](t)(admin.GetCertificate(t.Context(), &signerv1.GetCertificateRequest{Serial: entries[1].GetSerial()}))
	c := must[*x509.Certificate](t)(x509.ParseCertificate(one.GetCertificateDer()))
	if fmt.Sprintf("%x", c.SerialNumber) != entries[1].GetSerial() || !c.NotAfter.Equal(one.GetEntry().GetNotAfter().AsTime()) {
		t.Errorf("certificate %x stands under %s", c.SerialNumber, entries[1].GetSerial())
	}
	used := must[*signerv1.CountUsesResponse](t)(admin.CountUses(t.Context(), &signerv1.CountUsesRequest{Ids: [][]byte{[]byte("never"), []byte("token:pump-0")}}))
	if len(used.GetUsed()) != 2 || used.GetUsed()[0] != 0 || used.GetUsed()[1] != 1 {
		t.Errorf("used %v", used.GetUsed())
	}
}

func TestLedgerAdminRefuses(t *testing.T) {
	l := newLab(t)
	admin := signerv1.NewLedgerAdminClient(l.admin)
	list := func(r *signerv1.ListCertificatesRequest) error {
		_, err := admin.ListCertificates(t.Context(), r)
		return err
	}
	_, unknown := admin.GetCertificate(t.Context(), &signerv1.GetCertificateRequest{Serial: "00"})
	_, many := admin.CountUses(t.Context(), &signerv1.CountUsesRequest{Ids: make([][]byte, 1001)})
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"page of 1001":     {list(&signerv1.ListCertificatesRequest{PageSize: 1001}), fault.Malformed},
		"foreign token":    {list(&signerv1.ListCertificatesRequest{PageToken: "x"}), fault.Malformed},
		"negative token":   {list(&signerv1.ListCertificatesRequest{PageToken: "-1"}), fault.Malformed},
		"unknown serial":   {unknown, fault.NotFound},
		"1001 ids at once": {many, fault.Malformed},
	} {
		if !errors.Is(c.err, c.kind) {
			t.Errorf("%s answers %v", name, c.err)
		}
	}
}
