package keytab

import "github.com/estuary-pki/estuary/services/secret"

// Held returns the keys in the memory of k, not copies of them.
func (k *Keytab) Held() (keys []secret.Bytes) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.current {
		keys = append(keys, e.Key)
	}
	for _, r := range k.removed {
		keys = append(keys, r.Key)
	}
	return keys
}
