package signer_test

import (
	"testing"

	"github.com/estuary-pki/estuary/services/depstest"
)

// The process that holds the CA key speaks to no directory and checks no credential.
func TestLinkedModules(t *testing.T) {
	depstest.Check(t, "./cmd/signer", "deps.txt", 34, "ldap", "radius", "krb5")
}
