package token

import (
	"context"
	"errors"

	"github.com/estuary-pki/estuary/validator/internal/state"
)

// verify tells v whether the password is the token that was found under its index. An
// attempt made again with the same public key does not pay for a slow hash again: the index
// is a keyed digest over the whole password, so it is the password that was accepted.
func (c *Checker) verify(ctx context.Context, a Attempt, v *Verdict) error {
	algorithm := Algorithm(v.Token.Algorithm)
	if algorithm.slow() {
		if err := c.recognise(ctx, a, v); err != nil || v.Repeated {
			return err
		}
	}
	good, err := c.c.Hasher.Verify(ctx, a.Password, algorithm, v.Token.Hash)
	switch {
	case err != nil:
		return err
	case !good:
		v.Refused, v.Alarm = ReasonHash, ReasonHash
	case algorithm.slow():
		v.Acceptance = &state.Acceptance{
			Credential: v.Token.Credential(), SPKISHA256: a.SPKISHA256,
			AcceptedAt: c.c.Now(), KeepUntil: v.Token.ExpiresAt,
		}
	}
	return nil
}

// recognise tells v whether the token was accepted with the attempt's public key before. A
// row that somebody changed says nothing about that, and raises the alarm.
func (c *Checker) recognise(ctx context.Context, a Attempt, v *Verdict) (err error) {
	v.Repeated, err = c.c.State.Accepted(ctx, v.Token.Credential(), a.SPKISHA256, c.c.Now())
	if errors.Is(err, state.ErrForged) {
		v.Alarm = ReasonAcceptance
		return nil
	}
	return err
}
