package validator_test

import (
	"testing"

	"github.com/estuary-pki/estuary/services/depstest"
)

// The process that checks credentials cannot sign certificates.
func TestLinkedModules(t *testing.T) {
	depstest.Check(t, "./cmd/validator", "deps.txt", 40, "zlint", "pkcs8", "pkcs11")
}
