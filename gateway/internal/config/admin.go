// Package config holds what gateway.toml and admin.toml say.
//
// cmd/gateway and cmd/admin load them through services/config before anything is opened.
package config

import (
	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/services/mesh"
	"github.com/estuary-pki/estuary/services/run"
)

// Admin is the file admin.toml.
type Admin struct {
	API       AdminAPI      `toml:"admin" doc:"The admin API."`
	Mesh      mesh.Config   `toml:"mesh" doc:"Who the admin is towards the other services."`
	Validator Peer          `toml:"validator" doc:"Where enrolment tokens are kept."`
	Signer    Peer          `toml:"signer" doc:"Where the ledger is kept."`
	Ops       run.OpsConfig `toml:"ops" doc:"The listener for operators: /healthz, /readyz, /metrics."`
	Log       run.LogConfig `toml:"log" doc:"The log on standard error."`
}

// DefaultAdmin returns what holds where the file says nothing.
func DefaultAdmin() *Admin {
	return &Admin{
		API:       AdminAPI{Listen: "localhost:9443"},
		Validator: Peer{Name: "validator.estuary.internal", Timeout: defaultTimeout},
		Signer:    Peer{Name: "signer.estuary.internal", Timeout: defaultTimeout},
		Ops:       run.OpsConfig{Listen: "127.0.0.1:9601"},
		Log:       run.LogConfig{Level: "info"},
	}
}

// Check reports a port that is asked for twice.
func (a *Admin) Check(r *config.Report) {
	if a.API.Listen == a.Ops.Listen {
		r.Add("ops.listen", "is the address of the admin API")
	}
}
