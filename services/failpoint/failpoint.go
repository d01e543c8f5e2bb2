// Package failpoint holds the named points at which a process built with the tag failpoint
// can be made to die, to stop or to be late.
//
// The services call Here where a crash would hurt most: between two things that have to
// happen both or not at all. Without the tag both functions are empty, and a shipped binary
// holds neither them nor the names. With it, the environment says what happens:
//
//	ESTUARY_FAILPOINTS=signer.signed=kill@3,signer.intent=stop,gateway.reply=sleep:2s
//	ESTUARY_FAILPOINT_LOG=FILE
//
// Actions are kill (SIGKILL to the process itself), stop (SIGSTOP, until somebody sends
// SIGCONT) and sleep:DURATION. Each happens once: the first time that the point is passed,
// or the Nth with @N. A list that cannot be read ends the process at the first point.
package failpoint

// Point is a place in the journey of a request.
type Point string

// The points, in the order in which a request passes them.
const (
	// ValidatorPending is after a one-time code was claimed, before its back end is asked.
	ValidatorPending Point = "validator.pending"
	// ValidatorAnswered is after a credential was checked, before its record is committed.
	ValidatorAnswered Point = "validator.answered"
	// ValidatorAccepted is after the record of a credential was committed.
	ValidatorAccepted Point = "validator.accepted"
	// ValidatorReply is before the validator's answer leaves.
	ValidatorReply Point = "validator.reply"
	// SignerIntent is after the intent's transaction was committed.
	SignerIntent Point = "signer.intent"
	// SignerSigned is after the CA key was used; its note is the serial in hex.
	SignerSigned Point = "signer.signed"
	// SignerIssued is after ISSUED was committed.
	SignerIssued Point = "signer.issued"
	// SignerReply is before the signer's answer leaves.
	SignerReply Point = "signer.reply"
	// GatewayReply is before the 200 of an enrolment is written.
	GatewayReply Point = "gateway.reply"
)

// Points returns all points. It is for tests: no service calls it, or the names would be in
// the shipped binaries.
func Points() []Point {
	return []Point{
		ValidatorPending, ValidatorAnswered, ValidatorAccepted, ValidatorReply,
		SignerIntent, SignerSigned, SignerIssued, SignerReply, GatewayReply,
	}
}
