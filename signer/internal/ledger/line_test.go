package ledger_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// TestLine: what is recorded of it comes back, also from a row of which there is less.
func TestLine(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		in := l.intent(l.ask())
		in.Line = ledger.Line{LoginAt: l.now().Add(-time.Hour), Indicators: []string{"otp", "radius"}, Until: l.now().Add(time.Hour)}
		begun, err := l.ledger.Begin(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.ledger.GetPredecessor(t.Context(), in.Serial); !errors.Is(err, fault.NotFound) {
			t.Errorf("an intent is renewed: %v", err)
		}
		if _, err := l.ledger.Issued(t.Context(), begun.Reservation, certificate(in)); err != nil {
			t.Fatal(err)
		}
		p, err := l.ledger.GetPredecessor(t.Context(), in.Serial)
		if err != nil || string(p.Certificate) != string(certificate(in)) || p.Label != "device" || p.Revoked != nil || p.Identity.GetPrincipal() != "pump-7" ||
			string(p.CSR) != string(in.Request.DER()) {
			t.Errorf("%v, %v", p, err)
		}
		if !p.Line.LoginAt.Equal(in.Line.LoginAt) || !p.Line.Until.Equal(in.Line.Until) || !slices.Equal(p.Line.Indicators, in.Line.Indicators) {
			t.Errorf("line %v, not %v", p.Line, in.Line)
		}
		if err := l.ledger.Age(t.Context(), in.Serial); err != nil {
			t.Fatal(err)
		}
		p, err = l.ledger.GetPredecessor(t.Context(), in.Serial)
		if err != nil || !p.Line.LoginAt.Equal(l.now()) || !p.Line.Until.IsZero() || p.Line.Predecessor != "" {
			t.Errorf("a row from before: %v, %v", p.Line, err)
		}
		// Without its MAC it is worth nothing, in whichever form.
		for _, change := range []string{"login_at = 1", "line_until = 1", "predecessor = ''", "login_indicators = 'otp'"} {
			l.exec("UPDATE entry SET " + change)
			if _, err := l.ledger.GetPredecessor(t.Context(), in.Serial); !errors.Is(err, fault.Internal) {
				t.Errorf("%s: %v", change, err)
			}
			l.exec("UPDATE entry SET login_at = NULL, line_until = NULL, predecessor = NULL, login_indicators = NULL")
		}
		if _, err := l.ledger.GetPredecessor(t.Context(), in.Serial[1:]+"0"); !errors.Is(err, fault.NotFound) {
			t.Errorf("nobody's serial number: %v", err)
		}
	})
}

// TestSuccessors: the profile's limit counts, not what the assertion says; a failure gives the
// use back; a predecessor that is revoked by then has none.
func TestSuccessors(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		first := l.issued()
		renewal := func() ledger.Intent {
			a := l.ask()
			a.method, a.token, a.limit = assertionv1.Method_METHOD_CERTIFICATE, "certificate:c1", 1000
			in := l.intent(a)
			in.Line.Predecessor, in.Successors = first, &ledger.Successors{Limit: 2, KeepUntil: l.now().Add(time.Hour)}
			return in
		}
		begin := func() error {
			in := renewal()
			begun, err := l.ledger.Begin(t.Context(), in)
			if err == nil {
				_, err = l.ledger.Issued(t.Context(), begun.Reservation, certificate(in))
			}
			return err
		}
		begun, err := l.ledger.Begin(t.Context(), renewal())
		if err == nil {
			err = l.ledger.Failed(t.Context(), begun.Reservation, errors.New("no key"))
		}
		if err != nil {
			t.Fatal(err)
		}
		for n, want := range []error{nil, nil, fault.Unauthenticated} {
			if err := begin(); !errors.Is(err, want) {
				t.Errorf("successor %d: %v", n+1, err)
			}
		}
		first = l.issued()
		late := renewal()
		if _, err := l.revoke(first, hold); err != nil {
			t.Fatal(err)
		}
		if _, err := l.ledger.Begin(t.Context(), late); !errors.Is(err, fault.Unauthenticated) || !errors.Is(err, ledger.ErrHeld) {
			t.Errorf("held by then: %v", err)
		}
		if _, err := l.revoke(first, compromise); err != nil {
			t.Fatal(err)
		}
		if _, err := l.ledger.Begin(t.Context(), late); !errors.Is(err, fault.Unauthenticated) || !errors.Is(err, ledger.ErrRevoked) {
			t.Errorf("revoked by then: %v", err)
		}
	})
}

// TestRevokedWithItsLine: whoever has the key of a certificate has renewed it, perhaps: what follows
// it goes with it, for the reasons that are about key or holder.
func TestRevokedWithItsLine(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		line := func() (serials []string) {
			for range 3 {
				a := l.ask()
				in := l.intent(a)
				if len(serials) > 0 {
					a.method, a.token = assertionv1.Method_METHOD_CERTIFICATE, "certificate:"+serials[len(serials)-1]
					in = l.intent(a)
					in.Line.Predecessor, in.Successors = serials[len(serials)-1], &ledger.Successors{Limit: 2, KeepUntil: l.now().Add(time.Hour)}
				} else {
					a.token = in.Serial
					in = l.intent(a)
				}
				begun, err := l.ledger.Begin(t.Context(), in)
				if err == nil {
					_, err = l.ledger.Issued(t.Context(), begun.Reservation, certificate(in))
				}
				if err != nil {
					t.Fatal(err)
				}
				serials = append(serials, in.Serial)
			}
			return serials
		}
		for reason, ends := range map[signerv1.RevocationReason]bool{compromise: true, superseded: false, hold: false, unspecified: false} {
			serials := line()
			_, also, err := l.ledger.Revoke(t.Context(), ledger.Revocation{Serial: serials[0], Reason: reason, By: "ada"})
			if err != nil || ends != slices.Equal(also, serials[1:]) || !ends && len(also) != 0 {
				t.Errorf("%s: also %v, %v", reason, also, err)
			}
			for _, serial := range serials[1:] {
				if r, err := l.ledger.Status(t.Context(), everything, serial); err != nil || (r != nil) != ends {
					t.Errorf("%s: a successor %v, %v", reason, r, err)
				}
			}
		}
		// From the middle on, with one that is revoked already, and one that is being signed.
		serials := line()
		if _, err := l.revoke(serials[2], superseded); err != nil {
			t.Fatal(err)
		}
		a := l.ask()
		a.method, a.token = assertionv1.Method_METHOD_CERTIFICATE, "certificate:x"
		in := l.intent(a)
		in.Line.Predecessor, in.Successors = serials[2], &ledger.Successors{Limit: 1, KeepUntil: l.now().Add(time.Hour)}
		if _, err := l.ledger.Begin(t.Context(), in); !errors.Is(err, ledger.ErrRevoked) {
			t.Errorf("renewed: %v", err)
		}
		in.Line.Predecessor = serials[1]
		if _, err := l.ledger.Begin(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := l.revoke(serials[0], compromise); !errors.Is(err, fault.Conflict) {
			t.Errorf("while a successor is being signed: %v", err)
		}
		l.pass(time.Hour)
		if _, _, err := l.ledger.Revoke(t.Context(), ledger.Revocation{Serial: in.Serial, Reason: compromise}); !errors.Is(err, fault.Conflict) {
			t.Errorf("what is being signed: %v", err)
		}
	})
}
