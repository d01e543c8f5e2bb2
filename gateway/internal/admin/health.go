package admin

import (
	"context"
	"net/http"
	"sync"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// healthTimeout bounds the question to one service.
const healthTimeout = 2 * time.Second

// What a part can be.
const (
	partOK         = "ok"
	partNotServing = "not serving"
	partNoAnswer   = "no answer"
)

// part is a service whose health is asked.
type part struct {
	name   string
	client healthv1.HealthClient
}

// health is the answer of GET /admin/health.
type health struct {
	Status string            `json:"status"` // ok or unavailable
	Parts  map[string]string `json:"parts"`
}

// getHealth asks the validator and the signer: 200 when both serve, else 503.
func (s *Server) getHealth(ctx context.Context, c *call) (int, any, error) {
	if _, err := parseQuery(c.http.URL); err != nil {
		return 0, nil, err
	}
	states := make([]string, len(s.health))
	var asked sync.WaitGroup
	for i, p := range s.health {
		asked.Go(func() { states[i] = p.ask(ctx) }) // ends with its own deadline
	}
	asked.Wait()
	answer, status := health{Status: partOK, Parts: map[string]string{}}, http.StatusOK
	for i, p := range s.health {
		answer.Parts[p.name] = states[i]
		if states[i] != partOK {
			answer.Status, status = "unavailable", http.StatusServiceUnavailable
		}
	}
	return status, answer, nil
}

func (p part) ask(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer, err := p.client.Check(ctx, &healthv1.HealthCheckRequest{})
	switch {
	case err != nil:
		return partNoAnswer
	case answer.GetStatus() != healthv1.HealthCheckResponse_SERVING:
		return partNotServing
	default:
		return partOK
	}
}
