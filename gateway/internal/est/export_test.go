package est

// ParsePath is parsePath.
var ParsePath = parsePath

// OccupyVerifying takes every place for the verifying of signatures.
func (h *Handler) OccupyVerifying() {
	for range cap(h.verifying) {
		h.verifying <- struct{}{}
	}
}
