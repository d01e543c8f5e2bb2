package authn

import (
	"context"
	"errors"

	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/login"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/token"
)

// The kinds of credentials, for the audit. methodPassword is one of which it is not known
// who checks it.
const (
	methodToken    = "token"
	methodPassword = "password"
)

// methods are the names of the ways in which an account is proved.
var methods = map[assertionv1.Method]string{
	assertionv1.Method_METHOD_LDAP_OTP:      "ldap-otp",
	assertionv1.Method_METHOD_RADIUS:        "radius",
	assertionv1.Method_METHOD_LDAP_PASSWORD: "ldap-password",
}

// token says whose enrolment token this is.
func (a *Authenticator) token(ctx context.Context, rule Rule, up userPass, at Attempt) (Outcome, error) {
	holder := a.c.Throttle.Holder(up.user, at.ClientAddress)
	if err := a.c.Throttle.Admit(ctx, holder, a.c.Now()); err != nil {
		return Outcome{}, err
	}
	v, err := a.c.Tokens.Check(ctx, token.Attempt{User: up.user, Password: up.password, SPKISHA256: at.SPKISHA256})
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{
		Refused: string(v.Refused), Alarm: string(v.Alarm), TokenID: v.Token.ID, Method: methodToken,
		Repeated: v.Repeated, Acceptance: v.Acceptance,
	}
	if v.Token.ID != "" {
		out.Identity = v.Token.ClientID + "@" + a.c.Realm
	}
	if out.Refused == "" && rule.Check != CheckNone {
		if _, out.Refused, err = a.lookUp(ctx, rule, v.Token.ClientID); err != nil {
			return Outcome{}, err
		}
	}
	if out.Refused != "" {
		out.Acceptance = nil
		out.Settlement = state.Settlement{At: a.c.Now(), Others: holder.Subjects}
		return out, nil
	}
	out.Proof = a.proveToken(v, at)
	return out, nil
}

// lookUp returns the account of the holder of a token or ticket, or why that one may not enrol
// by the directory's word; neither where the directory was not reached and need not be.
func (a *Authenticator) lookUp(ctx context.Context, rule Rule, principal string) (*directory.Entry, string, error) {
	account, reason, err := a.c.Login.Account(ctx, principal)
	switch {
	case errors.Is(err, fault.Unavailable) && rule.Check == CheckIfReachable:
		return nil, "", nil
	case err != nil || reason != "":
		return nil, reason, err
	}
	return &account, "", nil
}

// directory says whose password this is.
func (a *Authenticator) directory(ctx context.Context, rule Rule, up userPass, at Attempt) (Outcome, error) {
	got, err := a.c.Login.Check(ctx, login.Attempt{
		User: up.user, Password: up.password, Binding: at.SPKISHA256, AcceptPassword: rule.AcceptPassword, Address: at.ClientAddress,
	})
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{
		Refused: got.Refused, Alarm: got.Alarm, Repeated: got.Repeated, Settlement: got.Settlement, Method: methodPassword,
	}
	if got.Account.Principal != "" {
		out.Identity = got.Account.Principal + "@" + got.Account.Realm
	}
	if out.Refused != "" {
		return out, nil
	}
	out.Method = methods[assertionv1.Method(got.Proved.Method)]
	out.Proof = proveAccount(got, at)
	return out, nil
}

func (a *Authenticator) proveToken(v token.Verdict, at Attempt) Proof {
	t := v.Token
	return Proof{
		Identity: &assertionv1.Identity{
			Kind:      assertionv1.IdentityKind_IDENTITY_KIND_DEVICE,
			Realm:     a.c.Realm,
			Principal: t.ClientID,
		},
		Authentication: &assertionv1.Authentication{
			Method:         assertionv1.Method_METHOD_TOKEN,
			Indicators:     []string{tokenIndicator},
			VerifiedAt:     timestamppb.New(a.c.Now()),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
			ClientAddress:  at.ClientAddress,
			Backend:        tokenBackend,
		},
		Token: &assertionv1.EnrolmentToken{
			Id:                 t.ID,
			AllowedNames:       t.AllowedNames,
			RequiredSpkiSha256: t.RequiredSPKI,
		},
		Spend: &assertionv1.Spend{
			Ids:       [][]byte{[]byte("token:" + t.ID)},
			Limit:     t.MaxUses,
			KeepUntil: timestamppb.New(t.ExpiresAt.Add(keepSpent)),
		},
	}
}

// proveAccount returns what an account proved. A one-time code is good for one certificate,
// whichever validator it came through.
func proveAccount(got login.Outcome, at Attempt) Proof {
	p := Proof{
		Identity: identityOf(got.Account),
		Authentication: &assertionv1.Authentication{
			Method:         assertionv1.Method(got.Proved.Method),
			Indicators:     got.Proved.Indicators,
			VerifiedAt:     timestamppb.New(got.Proved.At),
			ChannelBinding: assertionv1.ChannelBinding_CHANNEL_BINDING_NONE,
			ClientAddress:  at.ClientAddress,
			Backend:        got.Proved.Backend,
		},
	}
	if len(got.Spent) > 0 {
		p.Spend = &assertionv1.Spend{Ids: got.Spent, Limit: 1, KeepUntil: timestamppb.New(got.KeepUntil)}
	}
	return p
}

// identityOf returns who an account of the directory is.
func identityOf(e directory.Entry) *assertionv1.Identity {
	return &assertionv1.Identity{
		Kind: e.Kind, Realm: e.Realm, Principal: e.Principal, Uid: e.UID, Dn: e.DN, Cn: e.CN,
		Mail: e.Mail, Groups: e.Groups, ManagedHosts: e.ManagedHosts,
	}
}
