package assertion

import (
	"time"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
)

// LoginTime returns when the holder of the asserted identity logged in: for tickets when the
// first of them was had, else when the proof was verified.
func LoginTime(a *assertionv1.Assertion) time.Time {
	if login := a.GetAuthentication().GetLoginTime(); login != nil {
		return login.AsTime()
	}
	return a.GetAuthentication().GetVerifiedAt().AsTime()
}
