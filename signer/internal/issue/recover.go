package issue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/failpoint"
	"github.com/estuary-pki/estuary/services/fault"
	"github.com/estuary-pki/estuary/services/run"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// recoverEvery is how often intents are looked for whose signer did not end them.
const recoverEvery = time.Second

// Recover ends the intents that were left open: those of other signers once their lease has
// passed and, with own, those of an earlier process of this one. Each is made again from the
// stored assertion and the profile of today; where that gives the bytes that were recorded
// they are signed, else, and past the window in which a client would ask again, the intent
// is given up and its serial number revoked, because the key may have been used for it.
// While nothing can be recorded the key is left alone.
func (i *Issuer) Recover(ctx context.Context, own bool) error {
	for {
		if err := i.ledger.Chain().Check(ctx); err != nil {
			return err
		}
		adopted, err := i.ledger.Adopt(ctx, own)
		for _, a := range adopted {
			err = errors.Join(err, i.end(ctx, a))
		}
		if err != nil || len(adopted) == 0 {
			return err
		}
	}
}

// RunRecovery calls Recover every second until ctx ends. What cannot be ended now, because
// the key or the ledger cannot be had, is tried again when its lease has passed.
func (i *Issuer) RunRecovery(ctx context.Context) error {
	run.Every(ctx, recoverEvery, func(ctx context.Context) {
		if err := i.Recover(ctx, false); err != nil && ctx.Err() == nil {
			i.log.LogAttrs(ctx, slog.LevelError, "open intents could not be ended", slog.String("error", err.Error()))
		}
	})
	return nil
}

// end signs what was recorded, or gives it up.
func (i *Issuer) end(ctx context.Context, a ledger.Adopted) error {
	ctx, cancel := context.WithTimeout(ctx, ledger.Lease)
	defer cancel()
	record := audit.Record{Detail: map[string]string{}}
	cause := i.again(ctx, a, &record)
	record.Detail["recovered"] = "true"
	v := a.Reservation(record)
	if cause != nil && fault.KindOf(cause) == fault.Unavailable { // nobody knows: tried again when the lease has passed
		return fmt.Errorf("looking at the intent of serial %s: %w", a.Serial, cause)
	}
	if cause != nil {
		i.abandoned.Inc()
		i.log.LogAttrs(ctx, slog.LevelWarn, "an open intent is given up", slog.String("serial", a.Serial), slog.String("error", cause.Error()))
		return i.ledger.Abandon(ctx, v, cause)
	}
	der, err := i.certify(ctx, a.TBS)
	if err != nil {
		return fmt.Errorf("signing the intent of serial %s: %w", a.Serial, err)
	}
	failpoint.Note(failpoint.SignerSigned, a.Serial)
	if _, err := i.ledger.Issued(ctx, v, der); err != nil {
		i.ledger.Release(a.Serial)
		return fmt.Errorf("ending the intent of serial %s: %w", a.Serial, err)
	}
	i.recovered.Inc()
	i.log.LogAttrs(ctx, slog.LevelInfo, "an open intent was ended", slog.String("serial", a.Serial))
	return nil
}

// again returns why the recorded bytes must not be signed any more, or nil. It fills record
// as it learns more.
func (i *Issuer) again(ctx context.Context, a ledger.Adopted, record *audit.Record) error {
	if age := i.now().Sub(a.CreatedAt); age > ledger.RepeatWindow {
		return fmt.Errorf("nobody ended it within %v", ledger.RepeatWindow)
	}
	serial, ok := new(big.Int).SetString(a.Serial, 16)
	want, err := expect("", a.CSR)
	if !ok || err != nil {
		return fault.New(fault.Internal, "issue.again", "", errors.Join(errors.New("the row cannot be read"), err))
	}
	record.CSRSHA256 = fingerprint(want.CSRSHA256)
	verified, err := i.opener.OpenStored(a.Sealed, want, a.CreatedAt)
	if err != nil {
		return err
	}
	record.Actor = verified.Message().GetGateway()
	describe(verified.Message(), record)
	from, err := i.origin(ctx, verified.Message(), a.CreatedAt)
	if err != nil {
		return err
	}
	_, draft, err := i.build(verified, a.CSR, moment{at: a.CreatedAt, serial: serial, predecessor: from.predecessor})
	if err != nil {
		return err
	}
	if !bytes.Equal(draft.RawTBSCertificate, a.TBS) {
		return errors.New("the certificate would be another one now: profile or authority have changed")
	}
	return nil
}
