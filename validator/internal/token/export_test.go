package token

// SlowHashes returns how many slow hashes were computed.
func (h *Hasher) SlowHashes() int { return int(h.started.Load()) }

// TakeAllSlots takes every slot for slow hashes and returns what gives them back.
func (h *Hasher) TakeAllSlots() func() {
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	return func() {
		for range cap(h.slots) {
			<-h.slots
		}
	}
}
