module github.com/estuary-pki/estuary/gateway

go 1.26.0

require github.com/estuary-pki/estuary/proto v0.0.0-00010101000000-000000000000

require (
	github.com/VictoriaMetrics/metrics v1.35.1
	github.com/estuary-pki/estuary/services v0.0.0-00010101000000-000000000000
	github.com/google/go-cmp v0.7.0
	golang.org/x/crypto v0.58.0
	golang.org/x/net v0.60.0
	golang.org/x/sync v0.24.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/pelletier/go-toml/v2 v2.4.3 // indirect
	github.com/valyala/fastrand v1.1.0 // indirect
	github.com/valyala/histogram v1.2.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261026165753-2ffab32bce7e // indirect
)

replace github.com/estuary-pki/estuary/proto => ../proto

replace github.com/estuary-pki/estuary/services => ../services

replace github.com/estuary-pki/estuary/validator => ../validator

replace github.com/estuary-pki/estuary/signer => ../signer

replace github.com/estuary-pki/estuary/deploy/systest => ../deploy/systest
