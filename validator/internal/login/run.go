package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	"github.com/estuary-pki/estuary/services/failpoint"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
	"github.com/estuary-pki/estuary/validator/internal/radius"
	"github.com/estuary-pki/estuary/validator/internal/state"
	"github.com/estuary-pki/estuary/validator/internal/throttle"
)

// run claims what is to be claimed and asks the back end.
func (l *Login) run(ctx context.Context, p plan, a Attempt, place throttle.Place) (Outcome, error) {
	claim := &state.Claim{Binding: a.Binding}
	out := Outcome{Account: p.account}
	if p.subject.Limit.Max < 1 {
		return l.refuse(out, place, reasonOneFailure), nil
	}
	if p.way != Password {
		claim.IDs = l.digests(p.account, a.Password)
	}
	standing, proved, waited, err := l.begin(ctx, p, claim)
	out.Spent, out.KeepUntil = claim.IDs, claim.KeepUntil
	if errors.Is(err, state.ErrForged) {
		out.Alarm = reasonForged
		return l.refuse(out, place, reasonForged), nil
	}
	if err != nil {
		return Outcome{}, err
	}
	switch standing {
	case state.Throttled:
		return l.refuse(out, place, reasonThrottled), nil
	case state.Taken:
		return l.refuse(out, place, reasonTaken), nil
	case state.Lost:
		return l.refuse(out, place, reasonLost), nil
	case state.Accepted:
		if claim.At.Sub(proved.At) > repeatFor {
			return l.refuse(out, place, reasonOld), nil
		}
		out.Proved, out.Repeated = proved, true
		return out, nil
	}
	if waited {
		// The same attempt was refused meanwhile, and this one will be. To ask again for each
		// that waited would answer one after the other, only for accounts that there are.
		out = l.refuse(out, place, reasonMeanwhile)
		out.Settlement.Claim, out.Settlement.Account, out.Settlement.End = claim, &p.subject, state.Released
		return out, nil
	}
	failpoint.Here(failpoint.ValidatorPending)
	return l.ask(ctx, p, a, claim, out, place)
}

// lookEvery is how often is looked whether the same attempt, which somebody else works on,
// has come to its end.
const lookEvery = 50 * time.Millisecond

// begin claims what is to be claimed. While the same attempt is being worked on it waits: an
// answer of its own would tell that there is such an account. It tells whether it has waited.
func (l *Login) begin(ctx context.Context, p plan, c *state.Claim) (s state.Standing, proved state.Proved, waited bool, err error) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		c.At = l.c.Now()
		c.LeaseUntil, c.KeepUntil = c.At.Add(p.limit+grace), c.At.Add(Keep)
		s, proved, err = l.c.State.Begin(ctx, c, p.subject)
		if err != nil || s != state.Working {
			return s, proved, waited, err
		}
		waited = true
		select {
		case <-look.C:
		case <-ctx.Done():
			return s, proved, waited, unanswered(fmt.Errorf("the same attempt is being worked on: %w", ctx.Err()))
		}
	}
}

// ask takes the password to the back end, and sees to it that the claim is ended whatever
// comes of it.
func (l *Login) ask(ctx context.Context, p plan, a Attempt, claim *state.Claim, out Outcome, place throttle.Place) (Outcome, error) {
	// The client may have gone: what the back end says has to be known when it comes again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.limit+grace)
	defer cancel()
	out.Settlement = state.Settlement{Claim: claim, Account: &p.subject}
	settled := false
	defer func() {
		if !settled { // a panic: what became of the code is not known
			l.abandon(ctx, out.Settlement, true)
		}
	}()
	v, err := l.backEnd(ctx, p, a.Password)
	settled = true
	out.Settlement.At = l.c.Now().Truncate(time.Microsecond) // as it is stored
	switch {
	case err != nil:
		sent := wasSent(err)
		l.abandon(ctx, out.Settlement, sent)
		return Outcome{}, unanswered(err)
	case v.refused != "":
		out.Refused, out.Settlement.End, out.Settlement.Failed = v.refused, state.Released, v.counts
		out.Settlement.Others = place.Subjects
		return out, nil
	}
	out.Proved = state.Proved{Method: int32(v.method), Backend: v.server, Indicators: v.indicators, At: out.Settlement.At}
	out.Settlement.End, out.Settlement.Proved = state.Proven, out.Proved
	if v.method == assertionv1.Method_METHOD_LDAP_PASSWORD {
		// A password can be used again, also where it might have been more than one.
		out.Settlement.End, out.Spent = state.Released, nil
	}
	return out, nil
}

// abandon ends a claim of which nobody knows what became; where nothing was sent it is free
// again.
func (l *Login) abandon(ctx context.Context, t state.Settlement, sent bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	t.At = l.c.Now()
	if sent {
		t.End = state.Unresolved
	}
	if err := l.c.State.Settle(ctx, t, nil); err != nil {
		// The lease ends it, as if this process had died.
		l.c.Log.LogAttrs(ctx, slog.LevelError, "what became of a one-time code could not be stored", slog.Any("error", err))
	}
}

// verdict is what a back end said.
type verdict struct {
	refused    string
	counts     bool // as a failure of the account
	method     assertionv1.Method
	indicators []string
	server     string
}

// backEnd asks the one back end of the plan. Errors are *directory.Unknown or *radius.Unknown.
func (l *Login) backEnd(ctx context.Context, p plan, password secret.Bytes) (verdict, error) {
	if p.way == RADIUS {
		return l.radius(ctx, p, password)
	}
	b, err := l.c.Directory.Bind(ctx, p.account, password, directory.BindOptions{
		Control: p.way == OTP && l.c.Control, Tokens: p.way == OTP,
	})
	switch {
	case err != nil:
		return verdict{}, err
	case !b.Accepted:
		// FreeIPA counts whatever is not a success, an account that is locked included.
		return verdict{refused: b.Reason, counts: b.Server != "", server: b.Server}, nil
	case p.way == Password:
		return verdict{method: assertionv1.Method_METHOD_LDAP_PASSWORD, server: b.Server}, nil
	case !b.Token && p.orPassword:
		return verdict{method: assertionv1.Method_METHOD_LDAP_PASSWORD, server: b.Server}, nil
	case !b.Token:
		// The bind has succeeded without a second factor (FreeIPA's plug-in lets a user
		// without an active token in by the password alone).
		return verdict{refused: reasonNoToken, server: b.Server}, nil
	}
	return verdict{method: assertionv1.Method_METHOD_LDAP_OTP, indicators: []string{typeOTP}, server: b.Server}, nil
}

func (l *Login) radius(ctx context.Context, p plan, password secret.Bytes) (verdict, error) {
	r, split := radius.Request{User: p.user, Password: password}, false
	if at := bytes.LastIndex(password.Reveal(), []byte(l.c.Separator)); l.c.Separator != "" && at > 0 {
		r.Password = secret.New(bytes.Clone(password.Reveal()[:at]))
		r.Answer = secret.New(bytes.Clone(password.Reveal()[at+len(l.c.Separator):]))
		split = true
		defer r.Password.Wipe()
		defer r.Answer.Wipe()
	}
	answer, err := l.c.RADIUS.Authenticate(ctx, p.target, r)
	if err != nil {
		return verdict{}, err
	}
	switch answer.Result {
	case radius.Accepted:
		if split && !answer.Asked {
			// What stands behind the separator never left: with anything there the same code
			// would be another credential each time.
			return verdict{refused: reasonUnasked, server: answer.Server}, nil
		}
		return verdict{method: assertionv1.Method_METHOD_RADIUS, indicators: []string{typeRADIUS}, server: answer.Server}, nil
	case radius.Challenged:
		return verdict{refused: reasonChallenged, server: answer.Server}, nil
	case radius.Rejected:
		return verdict{refused: reasonRejected, counts: true, server: answer.Server}, nil
	}
	return verdict{}, &radius.Unknown{Server: answer.Server, Sent: true, Err: fmt.Errorf("result %d", answer.Result)}
}

// wasSent tells whether the password may have reached a back end.
func wasSent(err error) bool {
	var ldap *directory.Unknown
	var udp *radius.Unknown
	switch {
	case errors.As(err, &ldap):
		return ldap.Sent
	case errors.As(err, &udp):
		return udp.Sent
	}
	return true
}
