package assertion

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
)

// complete checks everything about an assertion that depends on nothing else: what both
// sides can check.
func complete(a *assertionv1.Assertion) error {
	if a.GetVersion() != Version {
		return fmt.Errorf("version %d is not %d", a.GetVersion(), Version)
	}
	for _, check := range []func(*assertionv1.Assertion) error{fields, times, identity, proof, spend} {
		if err := check(a); err != nil {
			return err
		}
	}
	return nil
}

func fields(a *assertionv1.Assertion) error {
	switch {
	case len(a.GetAssertionId()) != idSize:
		return fmt.Errorf("assertion_id has %d octets, not %d", len(a.GetAssertionId()), idSize)
	case a.GetIssuer() == "":
		return errors.New("issuer is empty")
	case a.GetAudience() == "":
		return errors.New("audience is empty")
	case a.GetGateway() == "":
		return errors.New("gateway is empty")
	case a.GetLabel() == "":
		return errors.New("label is empty")
	case !known(a.GetOperation()):
		return fmt.Errorf("operation %d is unknown", a.GetOperation())
	case len(a.GetCsrSha256()) != 32:
		return fmt.Errorf("csr_sha256 has %d octets, not 32", len(a.GetCsrSha256()))
	case len(a.GetSpkiSha256()) != 32:
		return fmt.Errorf("spki_sha256 has %d octets, not 32", len(a.GetSpkiSha256()))
	}
	return nil
}

// known tells whether e is a named value other than the unspecified one.
func known(e protoreflect.Enum) bool {
	return e.Number() != 0 && e.Descriptor().Values().ByNumber(e.Number()) != nil
}

func times(a *assertionv1.Assertion) error {
	for name, t := range map[string]*timestamppb.Timestamp{
		"issued_at": a.GetIssuedAt(), "not_after": a.GetNotAfter(), "verified_at": a.GetAuthentication().GetVerifiedAt(),
	} {
		if err := t.CheckValid(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	issued, end := a.GetIssuedAt().AsTime(), a.GetNotAfter().AsTime()
	verified := a.GetAuthentication().GetVerifiedAt().AsTime()
	switch {
	case !end.After(issued):
		return errors.New("not_after is not after issued_at")
	case end.Sub(issued) > MaxLife:
		return fmt.Errorf("its life of %v is longer than %v", end.Sub(issued), MaxLife)
	case verified.After(issued):
		return errors.New("verified_at is after issued_at")
	case issued.Sub(verified) > MaxProofAge:
		return fmt.Errorf("the proof was %v old, more than %v", issued.Sub(verified), MaxProofAge)
	}
	if login := a.GetAuthentication().GetLoginTime(); login != nil {
		if err := login.CheckValid(); err != nil {
			return fmt.Errorf("login_time: %w", err)
		}
		if login.AsTime().Sub(verified) > maxLoginSkew {
			return errors.New("login_time is after verified_at")
		}
	}
	return nil
}

func identity(a *assertionv1.Assertion) error {
	id := a.GetIdentity()
	switch {
	case !known(id.GetKind()):
		return fmt.Errorf("identity kind %d is unknown", id.GetKind())
	case id.GetRealm() == "":
		return errors.New("identity has no realm")
	case id.GetPrincipal() == "":
		return errors.New("identity has no principal")
	}
	return nil
}

// proof checks that the method comes with what it rests on, and with nothing else's.
func proof(a *assertionv1.Assertion) error {
	auth := a.GetAuthentication()
	switch {
	case !known(auth.GetMethod()):
		return fmt.Errorf("method %d is unknown", auth.GetMethod())
	case !known(auth.GetChannelBinding()):
		return fmt.Errorf("channel binding %d is unknown", auth.GetChannelBinding())
	case auth.GetMethod() == assertionv1.Method_METHOD_TOKEN != (a.GetToken() != nil):
		return errors.New("method token and the token's facts come together or not at all")
	case auth.GetMethod() == assertionv1.Method_METHOD_NEGOTIATE != (auth.GetLoginTime() != nil):
		return errors.New("method negotiate and the time of login come together or not at all")
	case auth.GetMethod() == assertionv1.Method_METHOD_CERTIFICATE && a.GetPresentedCertificate() == nil:
		return errors.New("method certificate comes without a presented certificate")
	}
	if t := a.GetToken(); t != nil {
		if t.GetId() == "" {
			return errors.New("token has no id")
		}
		if n := len(t.GetRequiredSpkiSha256()); n != 0 && n != 32 {
			return fmt.Errorf("required_spki_sha256 has %d octets, not 32", n)
		}
	}
	if c := a.GetPresentedCertificate(); c != nil && (len(c.GetSha256()) != 32 || len(c.GetAnchorSha256()) != 32 ||
		len(c.GetIssuer()) == 0 || len(c.GetSerial()) == 0) {
		return errors.New("presented certificate is incomplete")
	}
	return nil
}

// spend checks what is used up. Only a certificate or a password alone costs nothing by
// itself: every other method must name what it spends.
func spend(a *assertionv1.Assertion) error {
	s := a.GetSpend()
	method := a.GetAuthentication().GetMethod()
	if len(s.GetIds()) == 0 {
		if method == assertionv1.Method_METHOD_LDAP_PASSWORD {
			return nil
		}
		return fmt.Errorf("%s spends nothing", method)
	}
	if s.GetLimit() == 0 {
		return errors.New("spend limit is 0")
	}
	if err := s.GetKeepUntil().CheckValid(); err != nil {
		return fmt.Errorf("spend keep_until: %w", err)
	}
	for _, id := range s.GetIds() {
		if len(id) == 0 || len(id) > maxSpend {
			return fmt.Errorf("a spend id has %d octets: 1 to %d", len(id), maxSpend)
		}
		if bytes.HasPrefix(id, []byte(SpendCertificate)) != (method == assertionv1.Method_METHOD_CERTIFICATE) {
			return fmt.Errorf("%s spends what is another method's", method)
		}
	}
	return nil
}
