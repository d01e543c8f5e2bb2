//go:build !failpoint

package failpoint

// Here marks that p is passed.
func Here(Point) {}

// Note marks that something happened at p that is to be known whatever happens next.
func Note(Point, string) {}
