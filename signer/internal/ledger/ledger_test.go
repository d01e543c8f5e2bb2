package ledger_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/estuary-pki/estuary/services/audit"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/services/store"
	"github.com/estuary-pki/estuary/services/store/storetest"
	"github.com/estuary-pki/estuary/signer/internal/ledger"
)

func TestMigrationsHoldTheAuditChain(t *testing.T) {
	for file, schema := range map[string]string{"0001_ledger.sql": audit.Schema, "0003_checkpoints.sql": audit.SchemaCheckpoints} {
		text, err := os.ReadFile("migrations/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), schema) {
			t.Errorf("%s does not contain the schema of package audit word for word", file)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	db := storetest.Open(t, storetest.SQLite(t))
	good := ledger.Config{
		Store: db, MACKey: secret.New(make([]byte, ledger.MACKeySize)),
		Audit: audit.NewStream(&bytes.Buffer{}), Log: slog.New(slog.DiscardHandler), Instance: "signer-1",
	}
	for name, spoil := range map[string]func(*ledger.Config){
		"no store":  func(c *ledger.Config) { c.Store = nil },
		"no audit":  func(c *ledger.Config) { c.Audit = nil },
		"no log":    func(c *ledger.Config) { c.Log = nil },
		"no name":   func(c *ledger.Config) { c.Instance = "" },
		"no key":    func(c *ledger.Config) { c.MACKey = secret.Bytes{} },
		"short key": func(c *ledger.Config) { c.MACKey = secret.New(make([]byte, 31)) },
	} {
		c := good
		spoil(&c)
		if _, err := ledger.New(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ledger.New(t.Context(), good); err != nil {
		t.Error(err)
	}
}

// A second start, and a second signer, get on with the same ledger.
func TestNumbersOnlyGrow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func() *store.DB) {
		db := open()
		l := newLab(t, db)
		for want := int64(1); want <= 4; want++ {
			if want == 3 {
				l.ledger = l.open(1)
			}
			number, revoked, err := l.ledger.BeginCRL(t.Context(), everything, 0)
			if err != nil || number != want || len(revoked) != 0 {
				t.Fatalf("number %d, %d revoked, error %v", number, len(revoked), err)
			}
			var cause error
			if want == 4 {
				cause = errors.New("no key")
			}
			if err := l.ledger.EndCRL(t.Context(), number, cause); err != nil {
				t.Fatal(err)
			}
		}
		for event, n := range map[string]int{"crl.intent": 4, "crl.issued": 3, "crl.failed": 1} {
			if got := strings.Count(l.told(), event); got != n {
				t.Errorf("%s was audited %d times, not %d", event, got, n)
			}
		}
	})
}

func TestRevokedUntilExpired(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		in := l.intent(l.ask())
		if _, err := l.ledger.Begin(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		at := start.Add(time.Minute)
		l.exec("UPDATE entry SET revoked_at = $1, revocation_reason = 4", store.Micros(at))
		_, revoked, err := l.ledger.BeginCRL(t.Context(), everything, 0)
		if want := (ledger.Revoked{Serial: in.Serial, At: at, Reason: 4}); err != nil || len(revoked) != 1 || revoked[0] != want {
			t.Errorf("revoked are %v, error %v", revoked, err)
		}
		l.pass(91 * 24 * time.Hour)
		if _, revoked, err = l.ledger.BeginCRL(t.Context(), everything, 0); err != nil || len(revoked) != 0 {
			t.Errorf("after its end revoked are %v, error %v", revoked, err)
		}
	})
}

func TestRefusalIsRecorded(t *testing.T) {
	each(t, func(t *testing.T, l *lab) {
		err := l.ledger.RecordRefusal(t.Context(), audit.Record{Event: "certificate.refused", Outcome: audit.Refused, Reason: "why\n"})
		if err != nil {
			t.Fatal(err)
		}
		if n := l.number("SELECT count(*) FROM audit_record"); n != 1 {
			t.Errorf("%d records, not 1", n)
		}
		if !strings.Contains(l.told(), `"time":"2026-11-22T12:00:00Z","event":"certificate.refused","outcome":"refused"`) {
			t.Errorf("the stream says %s", l.told())
		}
		if err := l.ledger.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := l.db.Close(); err != nil {
			t.Fatal(err)
		}
		if l.ledger.Check(t.Context()) == nil {
			t.Error("a closed store is reachable")
		}
	})
}
