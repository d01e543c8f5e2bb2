package admin

import (
	"context"
	_ "embed"
	"encoding/json"
	"net/http"
)

// description is the API for programs (OpenAPI 3.1). A test holds it to the handlers.
//
//go:embed openapi.json
var description []byte

// getDescription answers GET /admin/openapi.json.
func (s *Server) getDescription(_ context.Context, c *call) (int, any, error) {
	if _, err := parseQuery(c.http.URL); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, json.RawMessage(description), nil
}
