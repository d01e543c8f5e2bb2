package directory

import (
	"sync"
	"time"
)

// maxCached bounds a cache; realms have a handful of password policies.
const maxCached = 256

// cache keeps what was read for a while. The zero value keeps nothing.
type cache[T any] struct {
	life time.Duration

	mu   sync.Mutex
	kept map[string]kept[T] // guarded by mu
}

type kept[T any] struct {
	value T
	until time.Time
}

func (c *cache[T]) get(key string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kept[key]
	if !ok || !time.Now().Before(k.until) {
		var none T
		return none, false
	}
	return k.value, true
}

func (c *cache[T]) put(key string, value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= maxCached {
		c.kept = map[string]kept[T]{}
	}
	c.kept[key] = kept[T]{value, time.Now().Add(c.life)}
}
