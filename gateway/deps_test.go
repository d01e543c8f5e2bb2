package gateway_test

import (
	"testing"

	"github.com/estuary-pki/estuary/services/depstest"
)

// The processes that face the network hold no database and speak to no directory.
func TestLinkedModules(t *testing.T) {
	for _, main := range []string{"./cmd/gateway", "./cmd/admin"} {
		t.Run(main, func(t *testing.T) {
			depstest.Check(t, main, "deps.txt", 12, "sqlite", "pgx", "ldap", "radius", "krb5", "zlint", "pkcs8")
		})
	}
}
