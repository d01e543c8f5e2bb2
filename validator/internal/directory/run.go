package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// probeEvery is how often a server that is down is asked.
	probeEvery = time.Second
	// probeTime bounds a probe. While one still waits, the next begins: a server that comes
	// back answers a fresh connection, while the old one may hang until its end.
	probeTime = 5 * time.Second
)

// Run asks the servers that are down every second and closes idle connections, until ctx ends.
// Connections that are in use then are closed when they are given back.
func (c *Client) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		for _, s := range c.servers {
			s.drop(idleLife)
			if s.reason() != nil && ctx.Err() == nil {
				probes.Go(func() { c.revive(ctx, s) }) // ends with ctx, or after probeTime
			}
		}
	}
	probes.Wait()
	for _, s := range c.servers {
		s.shut()
	}
	return nil
}

// revive marks a server up if it answers as it should, and otherwise remembers why it does not.
func (c *Client) revive(ctx context.Context, s *server) {
	ctx, cancel := context.WithTimeout(ctx, min(c.c.Timeout, probeTime))
	defer cancel()
	if err := s.probe(ctx); err != nil {
		s.renew(err)
	}
}

// renew changes why a server is down, unless another probe has found it up meanwhile.
func (s *server) renew(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		s.down = err
	}
}

// Check tells which servers are down, and why; nil when none is. It asks none of them.
func (c *Client) Check(context.Context) error {
	var down []string
	for _, s := range c.servers {
		if err := s.reason(); err != nil {
			down = append(down, fmt.Sprintf("%s (%v)", s.url, err))
		}
	}
	switch {
	case len(down) == 0:
		return nil
	case len(down) == len(c.servers):
		return errors.New("every directory server is down: " + strings.Join(down, ", "))
	}
	return fmt.Errorf("%d of %d directory servers are down: %s", len(down), len(c.servers), strings.Join(down, ", "))
}
