package run_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/estuary-pki/estuary/services/run"
)

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		start := time.Now()
		var at []time.Duration
		run.Every(ctx, 10*time.Second, func(context.Context) {
			at = append(at, time.Since(start))
			if len(at) == 1 {
				time.Sleep(12 * time.Second)
			}
		})
		want := []time.Duration{10 * time.Second, 22 * time.Second, 30 * time.Second}
		if len(at) != len(want) {
			t.Fatalf("called at %v", at)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("called at %v, not %v", at, want)
			}
		}
		if ended := time.Since(start); ended != 35*time.Second {
			t.Errorf("ended after %v", ended)
		}
	})
}
