package clientcert_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/certpath"
	"github.com/estuary-pki/estuary/services/certpath/certpathtest"
	"github.com/estuary-pki/estuary/services/subjectid"
	"github.com/estuary-pki/estuary/validator/internal/clientcert"
)

const (
	user   = assertionv1.IdentityKind_IDENTITY_KIND_USER
	device = assertionv1.IdentityKind_IDENTITY_KIND_DEVICE
)

// lab is our authority, and two manufacturers.
type lab struct {
	*clientcert.Verifier
	own, acme, other *certpathtest.Holder
	file             string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{}
	for _, ca := range []**certpathtest.Holder{&l.own, &l.acme, &l.other} {
		*ca = certpathtest.Issue(t, nil, nil, certpathtest.Authority)
	}
	l.file = certpathtest.File(t, l.own)
	var err error
	l.Verifier, err = clientcert.New(clientcert.Config{
		Authority: l.file, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Manufacturers: []clientcert.Manufacturer{
			{Name: "acme", Anchors: certpathtest.File(t, l.acme), Realm: "ACME", Principal: clientcert.SerialNumber},
			{Name: "other", Anchors: certpathtest.File(t, l.other), Realm: "OTHER", Principal: clientcert.CommonName},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestHolders(t *testing.T) {
	l := newLab(t)
	all := clientcert.Rule{Authorities: []string{clientcert.Own, "acme", "other"}, Grace: time.Hour}
	subject := func(n pkix.Name) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject = n }
	}
	ours := func(change func(*x509.Certificate)) *certpathtest.Holder {
		return certpathtest.Issue(t, l.own, nil, func(c *x509.Certificate) {
			certpathtest.Of(t, user, "alice", "IPA.TEST")(c)
			change(c)
		})
	}
	same := func(*x509.Certificate) {}
	ended := func(ago time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-ago) }
	}
	for name, c := range map[string]struct {
		h    *certpathtest.Holder
		rule clientcert.Rule
		who  string
		want error
	}{
		"ours":                     {ours(same), all, "alice@IPA.TEST", nil},
		"ours, where not accepted": {ours(same), clientcert.Rule{Authorities: []string{"acme"}}, "", certpath.ErrUntrusted},
		"ours, without a name":     {certpathtest.Issue(t, l.own, nil, nil), all, "", subjectid.ErrNone},
		"ours, within the grace":   {ours(ended(30 * time.Minute)), all, "alice@IPA.TEST", nil},
		"ours, expired":            {ours(ended(30 * time.Minute)), clientcert.Rule{Authorities: []string{clientcert.Own}}, "", certpath.ErrExpired},
		"acme":                     {certpathtest.Issue(t, l.acme, nil, subject(pkix.Name{SerialNumber: "A-1", CommonName: "x"})), all, "A-1@ACME", nil},
		"acme, which says ours":    {certpathtest.Issue(t, l.acme, nil, certpathtest.Of(t, user, "alice", "IPA.TEST")), all, "", clientcert.ErrNobody},
		"acme, expired":            {certpathtest.Issue(t, l.acme, nil, ended(time.Minute)), all, "", certpath.ErrExpired},
		"acme, control character":  {certpathtest.Issue(t, l.acme, nil, subject(pkix.Name{SerialNumber: "A\x01"})), all, "", clientcert.ErrNobody},
		"acme, blank behind":       {certpathtest.Issue(t, l.acme, nil, subject(pkix.Name{SerialNumber: "A "})), all, "", clientcert.ErrNobody},
		"acme, twice": {certpathtest.Issue(t, l.acme, nil, subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: []int{2, 5, 4, 5}, Value: "A"}, {Type: []int{2, 5, 4, 5}, Value: "B"},
		}})), all, "", clientcert.ErrNobody},
		"other":              {certpathtest.Issue(t, l.other, nil, subject(pkix.Name{SerialNumber: "A-1", CommonName: "x"})), all, "x@OTHER", nil},
		"nobody's":           {certpathtest.Issue(t, nil, nil, certpathtest.Of(t, user, "alice", "IPA.TEST")), all, "", certpath.ErrUntrusted},
		"under no authority": {ours(same), clientcert.Rule{}, "", certpath.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := l.Judge([][]byte{c.h.Raw}, c.rule, time.Now())
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if stranger := err != nil && clientcert.Stranger(err); stranger != errors.Is(c.want, certpath.ErrUntrusted) {
				t.Errorf("anybody could have made it: %v", stranger)
			}
			if err != nil {
				return
			}
			sum := sha256.Sum256(c.h.Raw)
			if got := subjectid.Of(h.Identity).String(); got != c.who || !bytes.Equal(h.Presented.GetSha256(), sum[:]) ||
				!bytes.Equal(h.Presented.GetSerial(), c.h.SerialNumber.Bytes()) || len(h.Presented.GetAnchorSha256()) != 32 {
				t.Errorf("%s, %v", got, h.Presented)
			}
			if h.Authority != clientcert.Own && h.Identity.GetKind() != device {
				t.Errorf("a manufacturer's certificate proves a %s", h.Identity.GetKind())
			}
		})
	}
}

// TestReload: anchors change with their file; a broken one leaves the old in use, and is told.
func TestReload(t *testing.T) {
	l := newLab(t)
	rule := clientcert.Rule{Authorities: []string{clientcert.Own}}
	next := certpathtest.Issue(t, nil, nil, certpathtest.Authority)
	leaf := certpathtest.Issue(t, next, nil, certpathtest.Of(t, device, "d", "R"))
	judge := func() error {
		_, err := l.Judge([][]byte{leaf.Raw}, rule, time.Now())
		return err
	}
	if err := judge(); !errors.Is(err, certpath.ErrUntrusted) {
		t.Errorf("before: %v", err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(l.file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(l.own.PEM(), next.PEM()...))
	if err := judge(); err != nil || l.Check() != nil {
		t.Errorf("after: %v, %v", err, l.Check())
	}
	write([]byte("nothing"))
	if err := judge(); err != nil || l.Check() == nil || !strings.Contains(l.Check().Error(), "old trust anchors") {
		t.Errorf("broken: %v, %v", err, l.Check())
	}
}

func TestIncomplete(t *testing.T) {
	l := newLab(t)
	log, set := slog.New(slog.DiscardHandler), metrics.NewSet()
	for name, m := range map[string]clientcert.Manufacturer{
		"our own name":  {Name: clientcert.Own, Anchors: l.file, Realm: "R", Principal: clientcert.CommonName},
		"no realm":      {Name: "m", Anchors: l.file, Principal: clientcert.CommonName},
		"no attribute":  {Name: "m", Anchors: l.file, Realm: "R"},
		"no such file":  {Name: "m", Anchors: l.file + "x", Realm: "R", Principal: clientcert.CommonName},
		"no attribute!": {Name: "m", Anchors: l.file, Realm: "R", Principal: "uid"},
	} {
		if _, err := clientcert.New(clientcert.Config{Manufacturers: []clientcert.Manufacturer{m}, Log: log, Metrics: set}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := clientcert.New(clientcert.Config{Authority: l.file}); err == nil {
		t.Error("without log and metrics: accepted")
	}
	if !l.Has("acme") || l.Has("nobody") {
		t.Error("what there is is not known")
	}
}
