// Package inspect turns a ledger into the list of what is wrong with it.
//
// "signer ledger verify" calls it, beside a running signer or on a copy of its database. It
// believes nothing that is stored: every certificate is held against the assertion that a
// validator signed, against the request and against the authority's key; every row against
// its MAC, its number and the audit. It calls ledger, for reading, and assertion.
package inspect

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/assertion"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

// Config is what an inspection needs; every field is required.
type Config struct {
	// Ledger is what is inspected.
	Ledger *ledger.Reader
	// Opener knows the validators' keys, those that have ended included, as they were.
	Opener *assertion.Opener
	// Authorities are the certificates of the authority, today's and earlier ones.
	Authorities []*x509.Certificate
	// Now is the clock; time.Now where nil.
	Now func() time.Time
}

// maxProblems is how many problems a report keeps.
const maxProblems = 1000

// future is how far ahead of the clock a row may be dated.
const future = 2 * time.Minute

// Problem is one thing that is wrong.
type Problem struct {
	// Seq is the number of the row that it is about, 0 when it is about none.
	Seq int64
	// What is wrong, for an operator.
	What string
}

// Report is the result of an inspection.
type Report struct {
	// Issued, Failed and Open count the rows by state.
	Issued, Failed, Open int64
	// Problems are in the order of their rows, those about none last; at most 1000.
	Problems []Problem
	// Found is the number of all problems.
	Found int64
}

// inspection is one run.
type inspection struct {
	Config
	report Report
	seen   map[string]signerv1.EntryState // by serial number

	mu       sync.Mutex       // guards report.Problems, report.Found and what follows
	uses     map[string][]use // by spend id
	unopened bool             // the assertion of a row could not be opened
}

// Run inspects the whole ledger. An error means that it could not be read.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Ledger == nil || c.Opener == nil || len(c.Authorities) == 0 {
		return Report{}, errors.New("inspecting needs a ledger, an opener of assertions and the authority")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	i := &inspection{Config: c, seen: map[string]signerv1.EntryState{}, uses: map[string][]use{}}
	err := c.Ledger.View(ctx, func(ctx context.Context, v *ledger.View) error {
		for _, step := range []func(context.Context, *ledger.View) error{i.rows, i.limits, i.counts, i.audit} {
			if err := step(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	slices.SortStableFunc(i.report.Problems, func(a, b Problem) int {
		return cmp.Compare(uint64(a.Seq-1), uint64(b.Seq-1)) // 0 becomes the largest
	})
	return i.report, nil
}

func (i *inspection) wrong(seq int64, format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.report.Found++; len(i.report.Problems) < maxProblems {
		i.report.Problems = append(i.report.Problems, Problem{Seq: seq, What: fmt.Sprintf(format, args...)})
	}
}

// rows looks at every row, and at the gaps between them.
func (i *inspection) rows(ctx context.Context, v *ledger.View) error {
	var work errgroup.Group // ends with this function
	work.SetLimit(runtime.GOMAXPROCS(0))
	next := int64(1)
	err := v.Walk(ctx, func(s ledger.Stored) {
		i.gap(next, s.Seq-1)
		next = s.Seq + 1
		i.seen[s.Serial] = s.State
		switch s.State {
		case signerv1.EntryState_ENTRY_STATE_ISSUED:
			i.report.Issued++
		case signerv1.EntryState_ENTRY_STATE_FAILED:
			i.report.Failed++
		default:
			i.report.Open++
		}
		work.Go(func() error { i.row(s); return nil })
	})
	_ = work.Wait() // reports problems, not errors
	if err != nil {
		return err
	}
	last, err := v.Last(ctx)
	if err != nil {
		return fmt.Errorf("reading the number of the newest row: %w", err)
	}
	i.gap(next, last)
	if last < next-1 {
		i.wrong(next-1, "rows %d to %d are newer than the ledger's own count, which was set back", last+1, next-1)
	}
	return nil
}

// gap reports rows first to last, if there are any, as missing.
func (i *inspection) gap(first, last int64) {
	switch {
	case first == last:
		i.wrong(first, "row %d is missing", first)
	case first < last:
		i.wrong(first, "rows %d to %d are missing", first, last)
	}
}
